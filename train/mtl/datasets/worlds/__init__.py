"""What procedural worlds share: shapes, ray casting, materials, light, the camera, and the cache of rendered frames.

A world draws a scene from a seed and says what lies around it (`casting.Backdrop`); everything else is here.
"""

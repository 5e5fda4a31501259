"""BDD100K, and any data set in its layout (Yu et al. 2020, arXiv:1805.04687; doc.bdd100k.com).

Images of 720x1280 from cars: boxes of ten classes, drivable areas, lane marks, weather, scene and time of day for the 100,000
images, 19 classes of pixels for the 10,000. No image has to have all of them.
"""

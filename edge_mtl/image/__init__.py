"""One frame before and after the network: validation, letterbox, camera, upsampling, geometry, colour and drawing."""

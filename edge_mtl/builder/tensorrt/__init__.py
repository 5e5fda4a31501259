"""Plans of TensorRT: the graph made half precision, options under trtexec's names, the build, what came of it."""

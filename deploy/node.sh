#!/usr/bin/env bash
# Starts the perception node with ROS and the SDK on the path. Settings come from the environment: see edge-mtl.service.
set -eo pipefail # not -u: the set-up files of ROS read variables that are not set

source "/opt/ros/${ROS_DISTRO:-humble}/setup.bash"
source "${EDGE_MTL_WORKSPACE:-/opt/edge-mtl/ros2_ws}/install/setup.bash"
source /opt/edge-mtl/venv/bin/activate
arguments=(-r "image:=${EDGE_MTL_IMAGE:-/camera/color/image_raw}" -r "camera_info:=${EDGE_MTL_CAMERA_INFO:-/camera/color/camera_info}")
if [ -n "${EDGE_MTL_BUNDLE:-}" ]; then arguments+=(-p "bundle:=$EDGE_MTL_BUNDLE"); fi
exec ros2 run edge_mtl perception_node --ros-args "${arguments[@]}"

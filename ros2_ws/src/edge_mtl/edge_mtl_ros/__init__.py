"""The ROS 2 side of edge_mtl: the lifecycle node `perception_node`.

Without a ROS import: convert, cameras, queue, stamps, points, degradation, faults, settings, loading, reloading, report,
machine, worker. With one: main, perception_node, parameters, subscriber, receiving, messages, outputs, events, mismatches,
heartbeat. None at all: profile.
"""

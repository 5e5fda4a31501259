"""The ROS 2 side of edge_mtl: the lifecycle node `perception_node`, which publishes whatever tasks a bundle has.

Without a ROS import: cameras, degradation, faults, frame_queue, loading, machine, points, profile, report, scheduler, settings,
sight, stream, worker. With one: main, perception_node, channels, lifecycle, background, bond, parameters, subscriber,
receiving, messages, outputs, obstacle_outputs, events, qos_monitor, heartbeat.
"""

"""Publishes ROS 2 messages, one JSON line each from standard input, as their namesakes of ROS 1.

Run by rviz_picture.py with the system's Python, where rospy lives. A line is {"topic", "type": "sensor_msgs/Image",
"message"}; bytes are base64. The first line is {"topics": {topic: type}}. Every topic is latched, so that RViz shows
the last message whenever it subscribes; RViz also gets a transform to base_link. Prints "connected" as soon as each
topic has a subscriber.
"""

import base64
import json
import sys
import threading

import rospy
from geometry_msgs.msg import TransformStamped
from roslib.message import get_message_class
from tf2_msgs.msg import TFMessage


def fill(message, content):
    """Copy a dict into a ROS 1 message; fields that ROS 1 does not have are left out."""
    for name, type_name in zip(message.__slots__, message._slot_types, strict=True):
        if name not in content:
            continue  # std_msgs/Header.seq
        value = content[name]
        if type_name in ("time", "duration"):
            getattr(message, name).secs, getattr(message, name).nsecs = value["sec"], value["nanosec"]
        elif type_name == "uint8[]":
            setattr(message, name, base64.b64decode(value))
        elif type_name.endswith("[]") and "/" in type_name:
            element = get_message_class(type_name[:-2])
            setattr(message, name, [fill(element(), item) for item in value])
        elif "/" in type_name:
            fill(getattr(message, name), value)
        else:
            setattr(message, name, value)
    return message


def publish_root():
    """What the launch file's static_transform_publisher does."""
    transform = TransformStamped(child_frame_id="base_link")
    transform.header.frame_id = "world"
    transform.transform.rotation.w = 1.0
    publisher = rospy.Publisher("/tf_static", TFMessage, queue_size=1, latch=True)
    publisher.publish(TFMessage([transform]))
    return publisher


def report_connected(publishers):
    """Print once that RViz listens to everything."""
    while not all(publisher.get_num_connections() for publisher in publishers):
        rospy.sleep(0.1)
    print("connected", flush=True)


def main():
    rospy.init_node("ros2_sink", disable_signals=True)
    root = publish_root()
    topics = json.loads(sys.stdin.readline())["topics"]
    publishers = {
        topic: rospy.Publisher(topic, get_message_class(type_name), queue_size=10, latch=True)
        for topic, type_name in topics.items()
    }
    threading.Thread(target=report_connected, args=([root, *publishers.values()],), daemon=True).start()
    for line in sys.stdin:
        item = json.loads(line)
        publishers[item["topic"]].publish(fill(get_message_class(item["type"])(), item["message"]))


if __name__ == "__main__":
    main()

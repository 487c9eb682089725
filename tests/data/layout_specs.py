"""Feature trees of registered datasets: from their TFDS catalog pages, those of droid and language_table from an
inventory of the real files, which also says the encodings.

A line is a leaf: path (a | is a slash inside one name), type, shape, and of images the encoding (none where
features.json states none). `text` and `string` are the two ways TFDS spells a text, `sequence` is a ragged list of them.
"""

from __future__ import annotations

_FLAGS = """
steps/is_first bool
steps/is_last bool
steps/is_terminal bool
"""
_OLD = f"""{_FLAGS}
steps/reward scalar float32
steps/observation/natural_language_embedding float32 512
steps/observation/natural_language_instruction string
"""
_NEW = f"""{_FLAGS}
steps/reward scalar float32
steps/discount scalar float32
steps/language_embedding float32 512
steps/language_instruction text
episode_metadata/file_path text
"""
_GOOGLE_ACTION = """
steps/action/world_vector float32 3
steps/action/rotation_delta float32 3
steps/action/terminate_episode float32
"""

LAYOUTS = {
    # a feature name that holds a slash; integers in the action; a flag outside the steps
    "kuka": f"""{_OLD}
steps/action/world_vector float32 3
steps/action/rotation_delta float32 3
steps/action/gripper_closedness_action float32 1
steps/action/base_displacement_vector float32 2
steps/action/base_displacement_vertical_rotation float32 1
steps/action/terminate_episode int32 3
steps/observation/clip_function_input|base_pose_tool_reached float32 7
steps/observation/clip_function_input|workspace_bounds float32 3 3
steps/observation/gripper_closed float32 1
steps/observation/height_to_bottom float32 1
steps/observation/image image 512 640 3 jpeg
steps/observation/task_id float32 1
success bool
""",
    # a bool in the action, no encoding stated
    "bridge": f"""{_OLD}{_GOOGLE_ACTION}
steps/action/open_gripper bool
steps/observation/image image 480 640 3
steps/observation/state float32 7
""",
    # cameras of unusual names, depth as plain tensors, three rival actions, two instructions
    "taco_play": f"""{_OLD}
steps/action/actions float32 7
steps/action/rel_actions_gripper float32 7
steps/action/rel_actions_world float32 7
steps/action/terminate_episode float32
steps/observation/depth_gripper float32 84 84
steps/observation/depth_static float32 150 200
steps/observation/rgb_gripper image 84 84 3
steps/observation/rgb_static image 150 200 3
steps/observation/robot_obs float32 15
steps/observation/structured_language_instruction string
""",
    # a scalar gripper, motion from 4 x 4 poses
    "viola": f"""{_OLD}{_GOOGLE_ACTION}
steps/action/gripper_closedness_action float32
steps/observation/agentview_rgb image 224 224 3
steps/observation/eye_in_hand_rgb image 224 224 3
steps/observation/ee_states float32 16
steps/observation/gripper_states float32 1
steps/observation/joint_states float32 7
""",
    # a hand camera that comes first in the alphabet, a float32 depth image with a misleading name
    "berkeley_autolab_ur5": f"""{_OLD}{_GOOGLE_ACTION}
steps/action/gripper_closedness_action float32
steps/observation/hand_image image 480 640 3
steps/observation/image image 480 640 3
steps/observation/image_with_depth float_image 480 640 1
steps/observation/robot_state float32 15
""",
    # slashes in the names of actions, ten future actions each, integers
    "bc_z": f"""{_OLD}
steps/action/future|axis_angle_residual float32 30
steps/action/future|target_close int64 10
steps/action/future|xyz_residual float32 30
steps/observation/episode_success float32
steps/observation/image image 171 213 3 jpeg
steps/observation/present|autonomous int64
steps/observation/present|axis_angle float32 3
steps/observation/present|intervention int64
steps/observation/present|sensed_close float32 1
steps/observation/present|xyz float32 3
steps/observation/sequence_length int64
""",
    # a flat action of 15, depth as int32 tensors
    "nyu_franka_play_dataset_converted_externally_to_rlds": f"""{_NEW}
steps/action float32 15
steps/observation/depth int32 128 128 1
steps/observation/depth_additional_view int32 128 128 1
steps/observation/image image 128 128 3 png
steps/observation/image_additional_view image 128 128 3 png
steps/observation/state float32 13
""",
    # 16-bit depth images before the colour image in the alphabet, uint8 vectors
    "maniskill_dataset_converted_externally_to_rlds": f"""{_NEW}
episode_metadata/episode_id text
steps/action float32 7
steps/observation/base_pose float32 7
steps/observation/depth image16 256 256 1 png
steps/observation/image image 256 256 3 png
steps/observation/main_camera_intrinsic_cv float32 3 3
steps/observation/state float32 18
steps/observation/target_object_or_part_final_pose_valid uint8 7
steps/observation/tcp_pose float32 7
steps/observation/wrist_depth image16 256 256 1 png
steps/observation/wrist_image image 256 256 3 png
""",
    # float64 throughout, way points of a mobile base
    "berkeley_gnm_sac_son": f"""{_FLAGS}
episode_metadata/file_path text
steps/reward scalar float64
steps/discount scalar float64
steps/language_embedding float32 512
steps/language_instruction text
steps/action float64 2
steps/action_angle float64 3
steps/observation/image image 120 160 3 png
steps/observation/position float64 2
steps/observation/state float64 3
steps/observation/yaw float64 1
""",
    # four cameras, matrices in the episode's own part
    "stanford_robocook_converted_externally_to_rlds": f"""{_NEW}
episode_metadata/extrinsics_1 float32 4 4
episode_metadata/extrinsics_2 float32 4 4
steps/action float32 7
steps/observation/depth_1 float32 256 256
steps/observation/image_1 image 256 256 3 jpeg
steps/observation/image_2 image 256 256 3 jpeg
steps/observation/image_3 image 256 256 3 jpeg
steps/observation/image_4 image 256 256 3 jpeg
steps/observation/state float32 7
""",
    # cameras and state one folder deeper
    "mimic_play": f"""{_NEW}
steps/action float32 7
steps/observation/image/front_image_1 image 120 120 3 jpeg
steps/observation/image/front_image_2 image 120 120 3 jpeg
steps/observation/state/ee_pose float32 7
steps/observation/state/gripper_position float32
steps/observation/state/joint_positions float32 7
steps/observation/wrist_image/wrist_image image 120 120 3 jpeg
""",
    # float64 actions in a dictionary beside a flat one, three instructions
    "droid": f"""{_FLAGS}
episode_metadata/file_path text
episode_metadata/recording_folderpath text
steps/reward scalar float32
steps/discount scalar float32
steps/language_instruction text
steps/language_instruction_2 text
steps/language_instruction_3 text
steps/action float64 7
steps/action_dict/cartesian_position float64 6
steps/action_dict/cartesian_velocity float64 6
steps/action_dict/gripper_position float64 1
steps/action_dict/joint_position float64 7
steps/observation/cartesian_position float64 6
steps/observation/exterior_image_1_left image 180 320 3 jpeg
steps/observation/exterior_image_2_left image 180 320 3 jpeg
steps/observation/gripper_position float64 1
steps/observation/joint_position float64 7
steps/observation/wrist_image_left image 180 320 3 jpeg
""",
    # the instruction as code points, an action of two numbers
    "language_table": f"""{_FLAGS}
episode_id string
steps/reward scalar float32
steps/action float32 2
steps/observation/effector_target_translation float32 2
steps/observation/effector_translation float32 2
steps/observation/instruction int32 512
steps/observation/rgb image 360 640 3 jpeg
""",
    # the action is a word, ragged lists of words
    "tidybot": f"""{_NEW}
steps/action string
steps/observation/image image 360 640 3 jpeg
steps/observation/object string
steps/observation/receptacles sequence
""",
    # no reward, no discount, vectors of bools, an int32 outside the steps
    "robo_ai_u_r5e": f"""{_FLAGS}
episode_metadata/episode_index int32
episode_metadata/file_name string
steps/absolute_action_mask bool 7
steps/action float32 7
steps/action_normalization_mask bool 7
steps/language_instruction string
steps/observation/image image 480 640 3 jpeg
steps/observation/robot_state float32 15
""",
    # a wrist camera and nothing else, a bool in the observation
    "berkeley_mvp_converted_externally_to_rlds": f"""{_NEW}
steps/action float32 8
steps/observation/gripper scalar bool
steps/observation/hand_image image 480 640 3 png
steps/observation/joint_pos float32 7
steps/observation/pose float32 7
""",
    # poses of many things beside the observation, several texts
    "asu_table_top_converted_externally_to_rlds": f"""{_NEW}
steps/action float32 7
steps/action_delta float32 7
steps/action_inst text
steps/goal_object text
steps/ground_truth_states/EE float32 6
steps/ground_truth_states/bottle float32 6
steps/observation/image image 224 224 3 png
steps/observation/state float32 7
steps/observation/state_vel float32 7
""",
    # a language embedding but no words
    "simulated_embedding_only": f"""{_FLAGS}
steps/reward scalar float32
steps/language_embedding float32 512
steps/action float32 7
steps/observation/image image 64 96 3 png
""",
}
#: camera that must be used, of the datasets that the registry knows
CAMERAS = {
    "kuka": "image",
    "bridge": "image",
    "taco_play": "rgb_static",
    "viola": "agentview_rgb",
    "berkeley_autolab_ur5": "image",
    "bc_z": "image",
    "nyu_franka_play_dataset_converted_externally_to_rlds": "image",
    "maniskill_dataset_converted_externally_to_rlds": "image",
    "berkeley_gnm_sac_son": "image",
    "stanford_robocook_converted_externally_to_rlds": "image_1",
    "mimic_play": "image/front_image_1",
    "droid": "exterior_image_1_left",
    "language_table": "rgb",
    "tidybot": "image",
    "robo_ai_u_r5e": "image",
    "berkeley_mvp_converted_externally_to_rlds": "hand_image",
    "asu_table_top_converted_externally_to_rlds": "image",
    "simulated_embedding_only": "image",
}

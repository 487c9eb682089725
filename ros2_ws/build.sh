#!/usr/bin/env bash
# Build the ROS 2 packages into the active virtual environment, so that its bare `python` imports them.
# Steps already done (same inputs, by hash) are skipped: the second run is instant.
# With a system ROS 2 this script is not needed: `colcon build` in this folder, as with any workspace.
set -euo pipefail
cd "$(dirname "$0")"

if [[ -z "${VIRTUAL_ENV:-}" ]]; then
  echo "build.sh: no active virtual environment; activate one first (. .venv/bin/activate) or run 'make ros'." >&2
  exit 2
fi
python="$VIRTUAL_ENV/bin/python"
export PATH="$VIRTUAL_ENV/bin:$PATH"
# Without these, CMake finds "No 'rosidl_typesupport_c'" and the like: the wheels live in the environment.
export AMENT_PREFIX_PATH="$VIRTUAL_ENV" CMAKE_PREFIX_PATH="$VIRTUAL_ENV"
stamps="$VIRTUAL_ENV/share/genie_robot_ros_build"
mkdir -p "$stamps"

# hash_of FILE_OR_FOLDER...: names and contents of the files, without caches.
hash_of() {
  { find "$@" -type f -not -path '*/__pycache__/*' -not -path '*/.pytest_cache/*' -not -path '*/*.egg-info/*' -print0 \
      | LC_ALL=C sort -z | xargs -0 sha256sum; "$python" -VV; } | sha256sum | cut -d' ' -f1
}
# done_before NAME HASH / remember NAME HASH: stamp files in the environment.
done_before() { [[ "$(cat "$stamps/$1" 2>/dev/null)" == "$2" ]]; }
remember() { echo "$2" >"$stamps/$1"; }

wheels="$(hash_of requirements-ros.txt fix_wheels.py)"
if ! done_before wheels "$wheels"; then
  if [[ "$(uname -sm)" != "Linux x86_64" ]]; then
    echo "build.sh: ROS 2 wheels exist for Linux x86_64 only, this is $(uname -sm);" \
      "use a system ROS 2 Jazzy and plain 'colcon build' (ros2_ws/README.md)." >&2
    exit 1
  fi
  echo "ros: installing the pinned ROS 2 wheels (about a minute the first time)"
  "$python" -m pip install --quiet --disable-pip-version-check -r requirements-ros.txt
  "$python" fix_wheels.py
  remember wheels "$wheels"
fi

# build_into_venv PACKAGE [COLCON ARGUMENT...]
build_into_venv() {
  local package="$1"
  shift
  local log="build/$package.log"
  mkdir -p build
  if ! colcon build --packages-select "$package" --merge-install --install-base "$VIRTUAL_ENV" "$@" >"$log" 2>&1; then
    tail -n 60 "$log" >&2
    echo "build.sh: building $package failed; whole log: ros2_ws/$log" >&2
    exit 1
  fi
}

interfaces="$(hash_of src/genie_robot_interfaces requirements-ros.txt)"
if ! done_before interfaces "$interfaces" || ! "$python" -c 'import genie_robot_interfaces.srv' 2>/dev/null; then
  if ! command -v g++ >/dev/null; then
    echo "build.sh: g++ is missing, the message types need a C++ compiler; install it (Debian, Ubuntu: apt-get install g++)." >&2
    exit 1
  fi
  echo "ros: building genie_robot_interfaces with colcon (one to two minutes)"
  rm -rf build/genie_robot_interfaces # an interface that was renamed or removed must not survive in the cache
  build_into_venv genie_robot_interfaces --cmake-args -GNinja -DBUILD_TESTING=OFF
  remember interfaces "$interfaces"
fi

for package in genie_robot_ros genie_policy_client; do
  sources="$(hash_of "src/$package" requirements-ros.txt)"
  if ! done_before "$package" "$sources" || ! "$python" -c "import $package" 2>/dev/null; then
    echo "ros: building $package"
    build_into_venv "$package"
    remember "$package" "$sources"
  fi
done
echo "ros: ready (python -m genie_robot_ros.simulator_node, or ros2_ws/README.md)"

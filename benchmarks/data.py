"""How fast and how small the data path is: the reader against tf.data on the same files, the clip cache, memory, resume.

    python benchmarks/data.py --out benchmarks/results/data_<machine>_<date>.md
    python benchmarks/data.py --toy                       # seconds: the same code on four short episodes

Every contender turns the same RT-1-like shards (256x320 JPEG of quality 95, about 28 kB a frame, 48 frames an episode) into
uint8 windows of 16 frames at 64x64: the centred 256x256, averaged over 4x4 pixels. Each runs in a process of its own, in
turns; the figure is frames per CPU-second (user + system of the process, all threads), best of four passes, without the
first windows of each.
tf.data is given what it has: images left encoded (TFDS SkipDecoding, or only the image feature parsed), cropped while
they are decoded, one area resize per window, parallel calls, fixed threads instead of autotuning, no shuffle.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from genie_robot.data.clip_builder import build_clip_cache
from genie_robot.data.decode import decode_frames, decode_image
from genie_robot.data.example_proto import parse_example
from genie_robot.data.loader import ClipLoader
from genie_robot.data.open import open_dataset
from genie_robot.data.provenance import cpu_name, git_hash
from genie_robot.data.resize import resize_frame
from genie_robot.data.rlds_writer import write_dataset
from genie_robot.data.tfrecord import read_records

WINDOW, HOP, SIZE, STORED_HW = 16, 16, 64, (256, 320)
IMAGE = "steps/observation/image"
NAME = "fractal20220817_data"
EPISODE_FRAMES = 48
BATCH = 64
WARM_UP = (
    6  # windows of each pass that are not counted: in them TensorFlow builds its graph and opens its files
)


def make_data(folder: Path, episodes: int) -> Path:
    """Moving windows of 1/f textures with a little noise: as hard for a JPEG decoder as RT-1's frames."""
    rng = np.random.default_rng(0)

    def texture(height: int, width: int) -> np.ndarray:
        frequency = np.hypot(np.fft.fftfreq(height)[:, None], np.fft.rfftfreq(width)[None])
        amplitude = np.maximum(frequency, 1 / max(height, width)) ** -1.62
        waves = np.fft.irfft2(amplitude * np.exp(2j * np.pi * rng.random(amplitude.shape)), s=(height, width))
        return (waves - waves.mean()) / waves.std()

    def encoded() -> list[bytes]:
        light = 128 + 45 * texture(320, 384)[..., None]
        scene = np.clip(light + 12 * np.stack([texture(320, 384) for _ in range(3)], axis=2), 0, 255)
        images = []
        for step in range(EPISODE_FRAMES):
            top, left = int(20 + 20 * np.sin(step / 5)), int(30 + 25 * np.cos(step / 7))
            noise = rng.normal(0, 1, (*STORED_HW, 1))
            frame = np.clip(scene[top : top + 256, left : left + 320] + noise, 0, 255).astype(np.uint8)
            images.append(cv2.imencode(".jpg", frame, [cv2.IMWRITE_JPEG_QUALITY, 95])[1].tobytes())
        return images

    splits = {"train": ({"encoded": encoded()} for _ in range(episodes))}
    return write_dataset(
        folder, NAME, "0.1.0", splits, STORED_HW, 3.0, encoding="jpeg", shard_bytes=30 * 2**20
    )


# ---- contenders: each yields windows, uint8 (16, 64, 64, 3) ----


def reader(folder: Path) -> Iterator[np.ndarray]:
    """The reader without TensorFlow, as it is used."""
    for episode in open_dataset(folder).episodes(image_hw=(SIZE, SIZE)):
        for first in range(0, episode.num_frames - WINDOW + 1, HOP):
            yield episode.frames_TYXC[first : first + WINDOW]


def tf_records(folder: Path, ratio: int = 1) -> Iterator[np.ndarray]:
    """tf.data by hand: TFRecordDataset, only the image feature parsed."""
    import tensorflow as tf

    spec = {IMAGE: tf.io.FixedLenSequenceFeature([], tf.string, allow_missing=True)}
    files = tf.data.TFRecordDataset(
        [str(path) for path in sorted(folder.glob("*.tfrecord-*"))], buffer_size=8 << 20
    )
    images = files.map(lambda record: tf.io.parse_single_example(record, spec)[IMAGE], num_parallel_calls=2)
    return _tf_windows(tf, images, ratio)


def tf_half(folder: Path) -> Iterator[np.ndarray]:
    """The same, with JPEG decoded at half size, as our reader does."""
    return tf_records(folder, ratio=2)


def tfds(folder: Path) -> Iterator[np.ndarray]:
    """tf.data through TFDS: builder_from_directory with SkipDecoding."""
    import tensorflow as tf
    import tensorflow_datasets

    builder: Any = tensorflow_datasets.builder_from_directory(str(folder))
    skip = {"steps": tensorflow_datasets.decode.SkipDecoding()}
    config = tensorflow_datasets.ReadConfig(interleave_cycle_length=1, try_autocache=False)
    episodes = builder.as_dataset(split="train", decoders=skip, shuffle_files=False, read_config=config)
    images = episodes.map(lambda episode: episode["steps"]["observation"]["image"], num_parallel_calls=2)
    return _tf_windows(tf, images)


def _tf_windows(tf: Any, images: Any, ratio: int = 1) -> Iterator[np.ndarray]:
    """Encoded images of episodes -> decoded windows."""
    side = STORED_HW[0] // ratio
    crop = [0, (STORED_HW[1] // ratio - side) // 2, side, side]

    def split(encoded: Any) -> Any:
        count = tf.shape(encoded)[0] // WINDOW
        return tf.data.Dataset.from_tensor_slices(tf.reshape(encoded[: count * WINDOW], (count, WINDOW)))

    def decode(window: Any) -> Any:
        def one(image: Any) -> Any:
            return tf.io.decode_and_crop_jpeg(image, crop, channels=3, ratio=ratio)

        shape = tf.TensorSpec((crop[2], crop[3], 3), tf.uint8)
        frames = tf.map_fn(one, window, fn_output_signature=shape)
        return tf.cast(tf.image.resize(frames, (SIZE, SIZE), method="area") + 0.5, tf.uint8)

    options = tf.data.Options()
    options.threading.private_threadpool_size = 2
    options.threading.max_intra_op_parallelism = 1
    options.autotune.enabled = False
    windows = images.flat_map(split).map(decode, num_parallel_calls=2, deterministic=True)
    return windows.with_options(options).prefetch(2).as_numpy_iterator()


CONTENDERS: dict[str, Callable[[Path], Iterator[np.ndarray]]] = {
    "reader": reader,
    "tfds": tfds,
    "tf_records": tf_records,
    "tf_half": tf_half,
}


# ---- what runs in a process of its own ----


def measure(name: str, folder: Path) -> dict[str, float]:
    """Frames per CPU-second and per second of a contender, best of four passes, and the memory of the process."""
    os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
    best = {"frames_per_cpu_s": 0.0}
    for _ in range(4):
        windows = CONTENDERS[name](folder)
        for _ in range(WARM_UP):
            next(windows)
        cpu_s, wall_s = time.process_time(), time.perf_counter()
        frames = sum(len(window) for window in windows)
        cpu_s, wall_s = time.process_time() - cpu_s, time.perf_counter() - wall_s
        if frames / cpu_s > best["frames_per_cpu_s"]:
            best = {"frames": frames, "frames_per_cpu_s": frames / cpu_s, "frames_per_s": frames / wall_s}
    return {**best, "rss_mb": status_mb("VmHWM")}


def measure_cache(folder: Path, clips: int) -> dict[str, Any]:
    """Build the clip cache in one pass, draw `clips` windows from it, and watch the memory."""
    begin = time.process_time()
    cache = build_clip_cache(folder, folder.parent / "cache", SIZE, SIZE, workers=1)
    result: dict[str, Any] = {"build_frames_per_cpu_s": cache.num_frames / (time.process_time() - begin)}
    loader = ClipLoader(cache, WINDOW, BATCH, seed=1)
    for _ in range(20):
        next(loader)
    own, speeds = [status_mb("RssAnon")], []
    rounds = 10
    for _ in range(rounds):
        begin = time.process_time()
        for _ in range(-(-clips // (rounds * BATCH))):
            next(loader)
        speeds.append(-(-clips // (rounds * BATCH)) * BATCH * WINDOW / (time.process_time() - begin))
        own.append(status_mb("RssAnon"))
    result |= {
        "frames_per_cpu_s": float(np.median(speeds)),
        "clips": loader.samples,
        "rss_mb": status_mb("VmHWM"),
        "own_mb": [round(value, 1) for value in own],
        "growth_mb": round(own[-1] - own[1], 2),
        "state_bytes": len(json.dumps(loader.state_dict())),
        "imports": sorted({"torch", "tensorflow", "mujoco"} & set(sys.modules)),
    }
    return result


def status_mb(field: str) -> float:
    """A line of /proc/self/status in MB: VmHWM (most memory ever), RssAnon (own memory, without mapped files)."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(field)) / 1024


def differences(folder: Path) -> dict[str, Any]:
    """Of the first frames: how far other ways to decode are from the reader's pixels, at 64x64."""
    import tensorflow as tf

    images = parse_example(next(read_records(min(folder.glob("*.tfrecord-*")))), {IMAGE})[IMAGE]
    ways: dict[str, Callable[[bytes], np.ndarray]] = {
        "the whole picture decoded, same resize": decode_image,
        "TensorFlow, exact transform": lambda image: tf.io.decode_jpeg(
            image, dct_method="INTEGER_ACCURATE"
        ).numpy(),
        "TensorFlow, its default transform": lambda image: tf.io.decode_jpeg(image).numpy(),
    }
    wanted = decode_frames([bytes(image) for image in images], (*STORED_HW, 3), (SIZE, SIZE)).astype(int)
    result = {}
    for name, decode in ways.items():
        got = np.stack([resize_frame(decode(bytes(image)), SIZE, SIZE) for image in images])
        error = got - wanted
        psnr = 10 * np.log10(255**2 / np.square(error).mean()) if error.any() else None
        result[name] = {"largest": int(np.abs(error).max()), "psnr_db": psnr}
    return result


# ---- the report ----


def in_own_process(part: str, folder: Path, *words: str) -> dict[str, Any]:
    """Run this file again for one part; its last line is JSON."""
    command = [sys.executable, __file__, "--part", part, "--data", str(folder), *words]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    if done.returncode:
        raise SystemExit(f"{part} failed: {done.stderr.strip().splitlines()[-1:]}")
    return json.loads(done.stdout.strip().splitlines()[-1])


def run(folder: Path, rounds: int, clips: int) -> dict[str, Any]:
    """All parts; contenders take turns, so that all see the same load."""
    results: dict[str, list[dict[str, float]]] = {name: [] for name in CONTENDERS}
    for _ in range(rounds):
        for name in CONTENDERS:
            results[name].append(in_own_process(name, folder))
            print(f"{name:<12} {results[name][-1]['frames_per_cpu_s']:8.0f} frames/CPU-s", file=sys.stderr)
    shards = sorted(folder.glob("*.tfrecord-*"))
    frames = sum(len(episode.frames_TYXC) for episode in open_dataset(folder).episodes(image_hw=(8, 8)))
    return {
        "command": " ".join(["python", *sys.argv]),
        "commit": git_hash(),
        "cpu": cpu_name(),
        "cores": os.cpu_count(),
        "frames": frames,
        "jpeg_kb": sum(path.stat().st_size for path in shards) / frames / 1000,
        "contenders": results,
        "cache": in_own_process("cache", folder, "--clips", str(clips)),
        "differences": in_own_process("differences", folder),
    }


WORDS = {
    "reader": "our reader, without TensorFlow",
    "tfds": "tf.data through TFDS, SkipDecoding",
    "tf_records": "tf.data by hand, one feature parsed",
    "tf_half": "tf.data by hand, JPEG at half size too",
}


def table(result: dict[str, Any]) -> str:
    """Markdown of `run`'s numbers."""
    median = {
        name: {key: float(np.median([row[key] for row in rows])) for key in ("frames_per_cpu_s", "rss_mb")}
        for name, rows in result["contenders"].items()
    }
    ours, cache = median["reader"]["frames_per_cpu_s"], result["cache"]
    lines = [
        "# Data path: frames per CPU-second, memory, resume",
        "",
        f"`{result['command']}`, commit {result['commit']}, {result['cpu']}, {result['cores']} cores.",
        f"{result['frames']} frames of {STORED_HW[0]}x{STORED_HW[1]}, {result['jpeg_kb']:.1f} kB of shard each, to windows of "
        f"{WINDOW} frames at {SIZE}x{SIZE}; median of {len(result['contenders']['reader'])} processes each, in turns.",
        "",
        "| reading shards | frames / CPU-s | our reader is | RSS MB |",
        "| --- | --- | --- | --- |",
    ]
    for name, row in median.items():
        speed = row["frames_per_cpu_s"]
        lines.append(f"| {WORDS[name]} | {speed:,.0f} | {ours / speed:.2f}x | {row['rss_mb']:.0f} |")
    lines += [
        "",
        "| clip cache | |",
        "| --- | --- |",
        f"| built in one pass (decode, cuts, write) | {cache['build_frames_per_cpu_s']:,.0f} frames / CPU-s |",
        f"| random windows, batch {BATCH} | {cache['frames_per_cpu_s']:,.0f} frames / CPU-s |",
        f"| largest RSS of the process, the build included | {cache['rss_mb']:.0f} MB |",
        f"| growth of its own memory over {cache['clips']:,} clips | {cache['growth_mb']:+.2f} MB |",
        f"| resume state | {cache['state_bytes']} bytes |",
        f"| torch, TensorFlow or MuJoCo imported | {', '.join(cache['imports']) or 'none'} |",
        "",
        "| frames at 64x64 against the reader's | largest difference (of 255) | PSNR dB |",
        "| --- | --- | --- |",
    ]
    for name, row in result["differences"].items():
        psnr = "equal" if row["psnr_db"] is None else f"{row['psnr_db']:.1f}"
        lines.append(f"| {name} | {row['largest']} | {psnr} |")
    return "\n".join(lines) + "\n"


def main() -> None:
    """Measure, print a table, write it if asked."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--clips", type=int, default=100_000)
    parser.add_argument("--toy", action="store_true", help="four episodes, one round")
    parser.add_argument("--out", type=Path, help="write the table here, and the numbers beside it as .json")
    parser.add_argument("--part", help=argparse.SUPPRESS)
    parser.add_argument("--data", type=Path, help=argparse.SUPPRESS)
    args = parser.parse_args()
    cv2.setNumThreads(1)
    if args.part:
        parts = {
            "cache": lambda: measure_cache(args.data, args.clips),
            "differences": lambda: differences(args.data),
        }
        print(json.dumps(parts[args.part]() if args.part in parts else measure(args.part, args.data)))
        return
    with tempfile.TemporaryDirectory() as scratch:
        folder = make_data(Path(scratch), 4 if args.toy else 120)
        result = run(folder, 1 if args.toy else args.rounds, 2000 if args.toy else args.clips)
    text = table(result)
    print(text)
    if args.out:
        args.out.write_text(text)
        args.out.with_suffix(".json").write_text(json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    main()

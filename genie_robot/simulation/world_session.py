"""A running imagination: prompt frames in, one imagined frame per latent action out.

Shapes: B batch, T frames, Y X pixels, C channels, N tokens per frame, K numbers of a continuous action.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from genie_robot.config import MASKGIT_STEPS, TEMPERATURE, SamplingConfig
from genie_robot.errors import ActionError, ImageError
from genie_robot.models.action_embedding import MixedEmbedding
from genie_robot.models.world_model import WorldModel, to_uint8
from genie_robot.nn.quantize import code_digits
from genie_robot.sampling.context import CachedContext
from genie_robot.sampling.maskgit import generate_frame
from genie_robot.sampling.schedule import reveal_counts


class WorldSession:
    """One batch of imagined worlds on one model. Deterministic: the same prompt, seed and actions give the same frames.

    How frames are sampled (`maskgit_steps` passes a frame, and the rest) is explained at `SamplingConfig`.
    """

    def __init__(
        self,
        model: WorldModel,
        *,
        maskgit_steps: int = MASKGIT_STEPS,
        temperature: float = TEMPERATURE,
        seed: int = 0,
        order: str = "random",
        choice_temperature: float = 1.0,
        schedule: str = "cosine",
    ) -> None:
        self.model = model
        self.sampling = SamplingConfig(maskgit_steps, temperature, order, schedule, choice_temperature)
        # Refuses a wrong number now, not at step 1.
        reveal_counts(model.config.tokens_per_frame, maskgit_steps, schedule)
        self.seed = seed
        self._context = CachedContext(model.dynamics)
        self._decoder_cache = model.tokenizer.new_cache()
        self._generators: list[torch.Generator] = []
        self._is_batched = False

    @property
    def batch_size(self) -> int:
        """Worlds in this session; 0 before the first reset."""
        return len(self._generators)

    @property
    def frames_in_context(self) -> int:
        """Frames that the next one is imagined from."""
        return self._context.num_frames

    @torch.no_grad()
    def reset(self, frames: np.ndarray, seed: int | np.ndarray | None = None) -> np.ndarray:
        """Start from prompt frames.

        Args:
            frames: uint8 (T,Y,X,3), or (B,T,Y,X,3) for a batch, of the model's size. The last ones that leave
                room for a new frame are used.
            seed: of the sampling noise. World i of a batch uses `seed + i`; an array (B,) sets each one's own.

        Returns:
            The last prompt frame as the tokenizer shows it: uint8 (Y,X,3) or (B,Y,X,3).
        """
        if not isinstance(frames, np.ndarray) or frames.ndim not in (4, 5):
            raise ImageError(f"frames: got {np.shape(frames)}, wanted (T,Y,X,3) or (B,T,Y,X,3)")
        self._is_batched = frames.ndim == 5
        video = frames if self._is_batched else frames[None]
        video_BTYXC = self.model.to_float(video[:, -self.model.max_prompt_frames :])
        tokens_BTN = self.model.tokenizer.encode(video_BTYXC)
        actions_BS, _ = self.model.latent_action.infer(self.model.action_input(video_BTYXC))
        actions_BS = self._as_rows(actions_BS)
        self._generators = _generators(self.seed if seed is None else seed, len(tokens_BTN))
        self._context = CachedContext(self.model.dynamics)
        self._context.append(tokens_BTN, self.model.dynamics.produced_by(actions_BS))
        self._decoder_cache = self.model.tokenizer.new_cache()
        frame_BYXC = self.model.tokenizer.decode(tokens_BTN, cache=self._decoder_cache, commit=True)[:, -1]
        return self._out(frame_BYXC)

    @torch.no_grad()
    def step(self, action: int | np.ndarray) -> np.ndarray:
        """Imagine the next frame under a latent action: one for all worlds, or one each.

        A code or (B,) of them; where the model's actions are continuous, floats (K,) or (B,K); where it also takes robot
        actions, rows (W,) or (B,W) of `WorldModel.action_rows`.
        """
        action_B = self._as_rows(self._check_action(action))
        self._context.make_room()
        tokens_BN = generate_frame(self._context, action_B, self._generators, self.sampling)
        self._context.append(tokens_BN[:, None], action_B[:, None])
        return self._out(self._decode_next(tokens_BN))

    def fork(self, n: int) -> WorldSession:
        """A new session that holds `n` copies of each world, side by side, to try different actions on.

        All copies of a world draw the same noise, so that they differ by their actions alone.
        """
        if n < 1:
            raise ActionError(f"fork: got {n}, wanted 1 or more")
        other = WorldSession(self.model, seed=self.seed)
        other.sampling = self.sampling
        other._context = self._context.fork(n)
        other._decoder_cache = self._decoder_cache.fork(n)
        other._is_batched = True
        for generator in self._generators:
            other._generators += [torch.Generator().set_state(generator.get_state()) for _ in range(n)]
        return other

    def _decode_next(self, tokens_BN: Tensor) -> Tensor:
        tokenizer = self.model.tokenizer
        if self._decoder_cache.is_full:
            # As the dynamics does: start afresh from the newer half of the window, the new frame included.
            assert self._context.tokens_BTN is not None
            window = self._context.tokens_BTN[:, -(self._decoder_cache.capacity // 2) :]
            self._decoder_cache = tokenizer.new_cache()
            return tokenizer.decode(window, cache=self._decoder_cache, commit=True)[:, -1]
        return tokenizer.decode(tokens_BN[:, None], cache=self._decoder_cache, commit=True)[:, 0]

    def _check_action(self, action: int | np.ndarray) -> Tensor:
        if not self.batch_size:
            raise ActionError("step: got an action before any prompt, wanted reset(frames) first")
        codes = np.asarray(action)
        embedding = self.model.dynamics.embed_action
        if isinstance(embedding, MixedEmbedding) and codes.dtype.kind == "f":
            return self._check_rows(codes, sum(embedding.widths))
        if self.model.config.latent_action.is_continuous:
            return self._check_vector(action)
        if codes.dtype.kind not in "iu" or codes.ndim > 1 or codes.size not in (1, self.batch_size):
            raise ActionError(f"action: got {action!r}, wanted a whole number or {self.batch_size} of them")
        wrong = codes[(codes < 0) | (codes >= self.model.num_actions)]
        if wrong.size:
            raise ActionError(
                f"action: got code {int(wrong.flat[0])}, wanted 0 to {self.model.num_actions - 1}"
            )
        return torch.as_tensor(codes.astype(np.int64), device=self.model.device).expand(self.batch_size)

    def _check_vector(self, action: int | np.ndarray) -> Tensor:
        width = self.model.config.latent_action.code_dim
        vectors = np.asarray(action)
        wrong_shape = vectors.shape not in ((width,), (1, width), (self.batch_size, width))
        if vectors.dtype.kind != "f" or wrong_shape or not np.isfinite(vectors).all():
            raise ActionError(
                f"action: got {vectors.dtype} {vectors.shape}, wanted {width} finite floats (this model's actions are "
                f"continuous), or {self.batch_size} rows of them"
            )
        action_BK = torch.as_tensor(vectors, dtype=torch.float32, device=self.model.device)
        return action_BK.expand(self.batch_size, width)

    def _check_rows(self, rows: np.ndarray, width: int) -> Tensor:
        is_right = rows.shape in ((width,), (1, width), (self.batch_size, width)) and not np.isinf(rows).any()
        if not is_right:
            raise ActionError(
                f"action: got {rows.shape}, wanted rows of {width} numbers, not infinite, or {self.batch_size} of them; "
                "make them with model.action_rows"
            )
        action_BW = torch.as_tensor(rows, dtype=torch.float32, device=self.model.device)
        return action_BW.expand(self.batch_size, width)

    def _as_rows(self, actions: Tensor) -> Tensor:
        """Codes as the rows that a model takes which also understands robot actions; anything else as it is."""
        embedding = self.model.dynamics.embed_action
        if not isinstance(embedding, MixedEmbedding) or actions.is_floating_point():
            return actions
        return embedding.rows(code_digits(actions, embedding.num_codes, embedding.num_codebooks))

    def _out(self, frame_BYXC: Tensor) -> np.ndarray:
        frame = to_uint8(frame_BYXC)
        return frame if self._is_batched else frame[0]


def _generators(seed: int | np.ndarray, batch: int) -> list[torch.Generator]:
    seeds = np.asarray(seed)
    if seeds.ndim == 0:
        seeds = seeds + np.arange(batch)
    if seeds.shape != (batch,):
        raise ActionError(f"seed: got {seeds.shape} seeds, wanted one, or one for each of {batch} worlds")
    return [torch.Generator().manual_seed(int(value)) for value in seeds]

"""One loop trains every model: batches, optimisers, averaging, log, checkpoints, resume and the
choice of the generator.
"""

from __future__ import annotations

import json
import math
import time
import warnings
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from caloforge.config import Training
from caloforge.errors import TrainingError
from caloforge.fast.compiled import Compiled, Gradients
from caloforge.fast.products import fast_products
from caloforge.files import write_text
from caloforge.models.base import Fit, Phase, ShowerModel
from caloforge.models.file import save_model
from caloforge.signals import asked_to_stop
from caloforge.training.average import Average
from caloforge.training.checkpoint import Checkpoints, latest_checkpoint, remove_partial
from caloforge.training.dataset import TrainingSet, Walks
from caloforge.training.gradients import Eager
from caloforge.training.log import GRADIENT, Log
from caloforge.training.optimisers import Player
from caloforge.training.parallel import batch_norms
from caloforge.training.selection import HeldOut, in_words
from caloforge.training.transfer import still, trainable


class Observer(Protocol):
    """Sees a training go by; the command line draws a progress bar with it."""

    def start(self, what: str, step: int, steps: int) -> None:
        """A training (or one range of it) begins at `step` of `steps`."""

    def log(self, step: int, numbers: dict[str, float]) -> None:
        """Losses and speed at a step."""

    def choice(self, step: int, score: str, best: bool) -> None:
        """The generator was scored, and is the best so far or not; the score in words."""


class Silent:
    """Observer that shows nothing."""

    def start(self, what: str, step: int, steps: int) -> None:
        """Nothing."""

    def log(self, step: int, numbers: dict[str, float]) -> None:
        """Nothing."""

    def choice(self, step: int, score: str, best: bool) -> None:
        """Nothing."""


@dataclass(frozen=True)
class Outcome:
    """How a training ended: the last step done, the chosen step with its score, and whether it was
    interrupted.
    """

    step: int
    best_step: int
    best_score: float
    interrupted: bool


class Run:
    """The state of one training and everything done with it.

    Parameters
    ----------
    model
        The model, on its device and in training mode.
    data
        Training showers on the same device.
    score
        It scores generators, of which the best is kept.
    settings
        Settings of the loop, from the recipe.
    folder
        Where log, checkpoints and model file go.
    about
        What the model file says about itself (recipe, seed, trained ranges).
    autocast
        Context of the chosen precision, from Fabric.
    """

    def __init__(
        self,
        model: ShowerModel,
        data: TrainingSet,
        score: HeldOut,
        settings: Training,
        folder: Path,
        about: dict[str, Any],
        autocast: Any,
    ) -> None:
        self.model, self.data, self.score = model, data, score
        self.settings, self.folder, self.about, self.autocast = settings, folder, about, autocast
        self.processes = data.processes
        phases = model.phases()
        self.planned = any(phase.planned for phase in phases)
        self.fits = [phase for phase in phases if isinstance(phase, Fit)]
        turns = [trainable(phase) for phase in phases if isinstance(phase, Phase)]
        self.players = [
            Player(phase, settings.gradient_clip, self.processes) for phase in turns if phase
        ]
        if turns and not self.players:
            raise TrainingError(
                f"training.freeze = {list(settings.freeze)} leaves nothing to train; freeze fewer "
                "parts."
            )
        if not self.players and settings.steps > 1:
            raise TrainingError(
                f"Got training.steps = {settings.steps} for a model that is fitted in one go; set "
                "training.steps=1."
            )
        self.gradients = [self._gradients(player.phase) for player in self.players]
        self.log = Log(folder)
        self.checkpoints = Checkpoints(folder / "checkpoints", settings.keep)
        self.rng = torch.Generator(device=data.device).manual_seed(settings.seed)
        self.step, self.best_step, self.best_score = 0, 0, math.inf
        self.fitted: list[str] = []  # names of the fits that are done
        self.history: list[dict[str, Any]] = []
        self.average = Average(model, settings.ema, data.condition) if settings.ema > 0 else None

    def _gradients(self, phase: Phase) -> Gradients:
        eager = Eager(phase, self._contexts)
        return Compiled(self.model, eager) if self.settings.compile else eager

    def _contexts(self) -> list[AbstractContextManager[Any]]:
        """What losses are computed within."""
        draws = self.processes.draws(self.settings.batch_size)
        return [self.autocast(), fast_products(self.model, self.data.device), draws]

    # --- one step ----------------------------------------------------------------------------
    def advance(self) -> dict[str, Tensor]:
        """One step: every phase its number of times. Returns the last losses, on the device."""
        numbers = self._fit()
        self.data.begin_step()
        for player, find in zip(self.players, self.gradients, strict=True):
            phase: Phase = player.phase
            pace = self._pace(phase)
            for _ in range(phase.repeats if pace > 0 else 0):
                batch = self.data.draw(self.settings.batch_size, self.rng, phase.source)
                loss, extra, gradients = find(batch, self.rng)
                player.take(gradients, pace)
                numbers[f"loss/{phase.name}"] = loss
                numbers |= {f"{phase.name}/{key}": value for key, value in extra.items()}
        self.step += 1
        if self.average is not None:
            self.average.update(self.step)
        return numbers

    def _pace(self, phase: Phase) -> float:
        """Factor of a phase's learning rates in this step; 0 outside of the phase's span."""
        first, last = (round(share * self.settings.steps) for share in phase.span)
        if not first <= self.step < last:
            return 0.0
        rising, fading = (share * (last - first) for share in (phase.rise, phase.fade))
        factor = min(1.0, (self.step + 1 - first) / rising) if rising else 1.0
        factor *= min(1.0, (last - self.step) / fading) if fading else 1.0
        return factor * self.settings.pace(self.step)

    @torch.no_grad()
    def _fit(self) -> dict[str, Tensor]:
        """What a model is fitted to rather than trained on; each fit once, when its time comes."""
        numbers: dict[str, Tensor] = {}
        steps = self.settings.steps
        due = [
            fit
            for fit in self.fits
            # What comes after all steps comes before the last one, so that it is scored and kept.
            if fit.name not in self.fitted and self.step >= min(round(fit.at * steps), steps - 1)
        ]
        for fit in due:
            measured = fit.fit(Walks(self.data, self.settings.batch_size), self.rng)
            numbers |= {
                f"{fit.name}/{key}": torch.tensor(value) for key, value in measured.items()
            }
            self.fitted.append(fit.name)
        if due and self.average is not None:  # what was there before the fit is nothing yet
            self.average.restart()
        return numbers

    def generator(self) -> AbstractContextManager[ShowerModel]:
        """The model as it would generate now: with averaged weights where the recipe averages."""
        return nullcontext(self.model) if self.average is None else self.average.in_place()

    # --- choosing and keeping ----------------------------------------------------------------
    def choose(self, observer: Observer) -> None:
        """Score the generator; when it is the one to keep, write it as the model file."""
        self._check_weights()
        self.processes.average_(batch_norms(self.model))
        if not self.processes.first:
            self.history.append({"step": self.step})
            return
        keep = self.settings.selection.keep
        with self.generator() as model:
            result = self.score(model, self.data.device)
            value = result.value(keep)
            # Without an energy point to judge (a tiny training file) the newest generator is kept.
            best = keep == "newest" or not math.isfinite(value) or value <= self.best_score
            scores = result.numbers()
            per_energy = {f"{e:g}": c for e, c in result.per_energy.items()}
            self.history.append(
                {"step": self.step, **scores, "kept": best, "per_energy": per_energy}
            )
            if best:
                self.best_step, self.best_score = self.step, value
                about = {**self.about, "chosen": {"step": self.step, **scores}}
                save_model(self.folder / "model.safetensors", model, about)
        write_text(self.folder / "selection.json", json.dumps(self.history, indent=1) + "\n")
        self.log.scores(self.step, scores)
        observer.choice(self.step, in_words(value, keep), best)

    def save(self) -> None:
        """Begin to write a checkpoint; it is finished while the training goes on."""
        self._check_weights()
        self.processes.average_(batch_norms(self.model))
        if not self.processes.first:
            return
        self.log.flush()
        tensors = {f"model.{k}": v for k, v in self.model.state_dict().items()}
        for player in self.players:
            tensors |= {f"player.{player.phase.name}.{k}": v for k, v in player.state().items()}
        if self.average is not None:
            tensors |= {f"average.{k}": v for k, v in self.average.weights.items()}
        tensors["rng"] = self.rng.get_state()
        about = {
            "epoch": self.data.epoch,
            "cursor": self.data.cursor,
            "best_step": self.best_step,
            "best_score": self.best_score,
            "history": self.history,
            "fitted": self.fitted,
            **self._fixed(),
        }
        self.checkpoints.save(self.step, tensors, about)

    def _fixed(self) -> dict[str, Any]:
        """What may not change when a training is resumed: the steps taken would belong to another
        one. It is also the number of steps, where turns are parts of it.
        """
        fixed = {"seed": self.settings.seed, "batch_size": self.settings.batch_size}
        fixed |= {"steps": self.settings.steps} if self.planned else {}
        return {**fixed, "init": self.about.get("trained_on", {}).get("init")}

    def resume(self) -> bool:
        """Continue from the newest checkpoint of the folder; False when there is none."""
        if self.processes.first:
            for folder in (self.folder, self.checkpoints.folder):
                remove_partial(folder)
        newest = latest_checkpoint(self.checkpoints.folder)
        if newest is None:
            return False
        tensors, about = newest
        asked = self._fixed()
        held = {key: about.get(key, value) for key, value in asked.items()}
        if asked != held:
            raise TrainingError(
                f"The checkpoint was made with {held}, this training has {asked}; expected the "
                "same: resume with those, or start in another folder."
            )

        def part(prefix: str) -> dict[str, Tensor]:
            return {k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)}

        average = {k: v.to(self.data.device) for k, v in part("average.").items()}
        try:
            if self.average is not None and average.keys() - self.average.weights.keys():
                raise KeyError("average")
            self.model.load_state_dict(part("model."))
            for player in self.players:
                player.load(part(f"player.{player.phase.name}."))
            self.rng.set_state(tensors["rng"])
        except (RuntimeError, KeyError, ValueError) as error:
            raise TrainingError(
                f"The checkpoint in {self.folder} belongs to another model; resume with its "
                "recipe."
            ) from error
        if self.average is not None:
            self.average.restart()  # where `training.ema` was 0 until now
            self.average.weights |= average
        self.data.seek(about["epoch"], about["cursor"])
        self.step, self.history = about["step"], about["history"]
        self.fitted = about.get("fitted", [fit.name for fit in self.fits])
        self.best_step, self.best_score = about["best_step"], about["best_score"]
        return True

    # --- the loop ----------------------------------------------------------------------------
    def go(self, observer: Observer) -> Outcome:
        """Train to the last step; Ctrl-C stops after the step under way, with everything saved.

        An observer stops the training in the same way by raising KeyboardInterrupt.
        """
        settings, stopped = self.settings, False
        if self.processes.first:
            self.log.begin(self.step)
        self.model.train()
        for part in still(self.model):
            part.eval()
        clock, counted = time.perf_counter(), self.step
        with asked_to_stop() as asked, self.log, self.checkpoints:
            while self.step < settings.steps and not stopped:
                numbers = self.advance()
                self.checkpoints.check()
                try:
                    telling = self.step % settings.log_every == 0 or self.step == settings.steps
                    if telling:
                        now = time.perf_counter()
                        rate = (self.step - counted) / max(now - clock, 1e-9)
                        clock, counted = now, self.step
                        self._tell(numbers, rate, observer)
                    if self.step % settings.selection.every == 0:
                        self.choose(observer)
                    if self.step % settings.checkpoint_every == 0:
                        self.save()
                    # Several processes stop after the same step: they ask each other at times.
                    if telling or self.processes.count == 1:
                        stopped = self.processes.any(asked(), self.data.device)
                except KeyboardInterrupt:
                    stopped = True
            due = self.step == settings.steps or self.step % settings.selection.every == 0
            if due and (not self.history or self.history[-1]["step"] != self.step):
                self.choose(observer)
            self.save()
            if not self.history:  # stopped before the first choice; resuming forgets this one
                self.choose(observer)
            stopped = stopped or asked()
        return Outcome(self.step, self.best_step, self.best_score, stopped)

    def _tell(self, numbers: dict[str, Tensor], rate: float, observer: Observer) -> None:
        """Losses, gradients and speed into the log: the only numbers that leave the device."""
        norms = {
            f"{GRADIENT}{p.phase.name}": p.gradient_norm()
            for p in self.players
            if f"loss/{p.phase.name}" in numbers  # it took its turn in this step
        }
        device = self.data.device
        on_device = {k: v.to(device).float().reshape(()) for k, v in (numbers | norms).items()}
        values: dict[str, float] = {}
        if on_device:
            joint = torch.stack(list(on_device.values()))
            self.processes.average_([joint])
            # In one copy, so that a GPU waits once.
            values = dict(zip(on_device, joint.tolist(), strict=True))
        wrong = [key for key, value in values.items() if not math.isfinite(value)]
        if wrong:
            raise self._broken(f"{wrong[0]} became {values[wrong[0]]}")
        values["steps_per_second"] = rate
        if not self.processes.first:
            return
        if self.log.numbers(self.step, values) and self.settings.stagnation != "off":
            self._stagnates()
        observer.log(self.step, values)

    def _stagnates(self) -> None:
        watch = self.log.stagnation
        what = (
            f"The gradients of all players ({', '.join(p.phase.name for p in self.players)}) have "
            f"stayed below {watch.fraction:g} of their largest for {watch.window} lines of the "
            f"log, up to step {self.step}: nothing is learnt any more"
        )
        if self.settings.stagnation == "stop":
            raise TrainingError(
                f"{what}; the chosen generator is kept in {self.folder}: start again with a lower "
                "learning rate or another seed."
            )
        if watch.vanished == watch.window:  # once
            warnings.warn(
                f"{what}; stop it, or have it stopped by training.stagnation=stop.", stacklevel=4
            )

    def _check_weights(self) -> None:
        """Nothing broken is ever kept: a loss may still be finite when its gradient is not."""
        named: dict[str, Tensor] = dict(self.model.named_parameters())
        named |= {k: v for k, v in self.model.named_buffers() if v.is_floating_point()}
        values = [value for value in named.values() if value.numel()]
        if math.isfinite(float(nn.utils.get_total_norm(values, norm_type=math.inf))):
            return  # in a few kernels and one wait, however many weights there are
        for name, value in named.items():
            if not torch.isfinite(value).all():
                raise self._broken(f"The weight {name} became NaN or infinite")

    def _broken(self, what: str) -> TrainingError:
        return TrainingError(
            f"{what} at step {self.step}; the last good state is kept in {self.folder}: lower the "
            "learning rate or clip the gradient, then --resume."
        )

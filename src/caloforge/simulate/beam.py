"""Which particles come in: their kind, energy, impact and direction, and with which alignment.

What may be drawn follows from the roles of the conditions in the geometry file. Every shower draws
from its own random numbers, so the showers do not depend on how the work is divided.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from caloforge.detector.geometry import Condition, Geometry
from caloforge.detector.particle import particle_line
from caloforge.errors import ConditionError, did_you_mean
from caloforge.noise import uniforms
from caloforge.simulate.particles import Particle, category_of

if TYPE_CHECKING:
    from caloforge.generate.conditions import Spectrum

Array = NDArray[np.float64]

_COUNTED = re.compile(r"[^x,:]+x\d+(,[^x,:]+x\d+)*")


@dataclass(frozen=True)
class Beam:
    """N incident particles and the conditions of every read-out that sees them.

    Parameters
    ----------
    particles
        The kinds of particles.
    kind
        Which of them each one is, (N,).
    energy
        Energy in MeV, (N,): the total energy of a neutral pion, the kinetic energy of others.
    entry
        Where they cross z = 0, (N, 2) mm along the axes of the cells.
    direction
        Unit vectors, (N, 3).
    conditions
        Condition columns (N, C) of each read-out.
    shifts
        For each read-out, how far its own impact lies from `entry`, (N, 2) mm.
    """

    particles: tuple[Particle, ...]
    kind: NDArray[np.int64]
    energy: Array
    entry: Array
    direction: Array
    conditions: tuple[Array, ...]
    shifts: tuple[Array, ...]

    def __len__(self) -> int:
        return len(self.energy)

    def rows(self, rows: slice) -> Beam:
        """Some of the particles."""
        return Beam(
            self.particles,
            self.kind[rows],
            self.energy[rows],
            self.entry[rows],
            self.direction[rows],
            tuple(c[rows] for c in self.conditions),
            tuple(s[rows] for s in self.shifts),
        )


@dataclass(frozen=True)
class Draw:
    """One quantity that is drawn for every shower.

    `low`, `high` and `scale` are those of the condition; `default` is the value when nothing is
    asked for, None for one that is drawn over its whole range.
    """

    low: float
    high: float
    scale: str
    default: float | None = None


def drawn_by(geometry: Geometry) -> dict[str, Draw]:
    """What a user may choose for a read-out, by name.

    A read-out whose conditions are the components of the momentum has `energy` and the slopes
    `slope_AXIS` instead of them. Raises ConditionError for a read-out that knows no energy.
    """
    draws: dict[str, Draw] = {}
    momentum = [c for c in geometry.conditions if c.role == "momentum"]
    for condition in geometry.conditions:
        if condition.role == "energy":
            draws["energy"] = _draw(condition)
        elif condition.role not in ("momentum", "particle"):
            draws[condition.name] = _draw(condition)
    if momentum and "energy" not in draws:
        along = geometry.conditions[geometry.column_of("momentum", "z")]
        draws["energy"] = Draw(max(along.low, 1.0), along.high, "log")
    if momentum:
        for axis in particle_line(geometry).axes:
            draws[f"slope_{axis}"] = Draw(-10.0, 10.0, "linear", default=0.0)
    if "energy" not in draws:
        raise ConditionError(
            f"'{geometry.name}' has no condition with the role 'energy'; expected one: state it "
            "in the geometry file."
        )
    return draws


def _draw(condition: Condition) -> Draw:
    return Draw(condition.low, condition.high, condition.scale)


@dataclass(frozen=True)
class Request:
    """What a user asks for.

    Parameters
    ----------
    particles
        Kinds of particles; each shower has one of them, all with the same probability.
    number
        Number of showers N; None with counts in `values["energy"]`, whose sum it then is.
    values
        Name of what is drawn to its text: "1000", "1000,2000" (each as probable as the others),
        "1000x50,2000x20" (energies with counts), or a spectrum such as "log-uniform:1000:100000".
        What is not named is drawn over the whole range of its condition.
    seed
        Seed of everything that is random.
    """

    particles: tuple[Particle, ...]
    number: int | None
    values: Mapping[str, str] = field(default_factory=dict)
    seed: int = 0


def make_beam(request: Request, geometries: Sequence[Geometry]) -> Beam:
    """The incident particles for a read-out, and for others that see the same showers.

    Raises ConditionError for values that are not understood, unknown names, and values outside the
    range of the condition.
    """
    draws: dict[str, Draw] = {}
    for geometry in geometries:
        for name, draw in drawn_by(geometry).items():
            draws.setdefault(name, draw)
    for name in request.values:
        if name not in draws:
            hint = did_you_mean(name, draws)
            raise ConditionError(
                f"'{geometries[0].name}' has nothing to draw called '{name}': {hint}"
            )
    counted = _counted(request.values.get("energy", ""))
    number = _number(request.number, counted)
    u = uniforms(request.seed, 0, number, len(draws) + 1)
    drawn = {
        name: _values(name, draw, request.values.get(name), u[:, k])
        for k, (name, draw) in enumerate(draws.items())
        if not (name == "energy" and counted is not None)
    }
    if counted is not None:
        _check_range("energy", draws["energy"], counted)
        # In a random order, so that blocks of showers cost about the same.
        drawn["energy"] = counted[np.argsort(u[:, list(draws).index("energy")], kind="stable")]
    kind = np.floor(u[:, -1] * len(request.particles)).astype(np.int64)
    conditions = tuple(_conditions(g, drawn, kind, request.particles) for g in geometries)
    return beam_of(geometries, conditions, request.particles, kind)


def beam_of(
    geometries: Sequence[Geometry],
    conditions: Sequence[Array],
    particles: tuple[Particle, ...],
    kind: NDArray[np.int64],
) -> Beam:
    """The incident particles that have given conditions (N, C) in each read-out, and are of the
    given kinds (N,).
    """
    main, own = geometries[0], conditions[0]
    lines = [particle_line(g) for g in geometries]
    entries = [line.entry(c) for line, c in zip(lines, conditions, strict=True)]
    direction = np.column_stack([lines[0].slope(own), np.ones(len(own))])
    energy = main.incident_energy(own)
    if main.find("energy") is None:  # the conditions are components of the momentum
        mass = np.array([p.mass for p in particles])[kind]
        rest = np.array([0.0 if p.name == "pi0" else p.mass for p in particles])[kind]
        energy = np.sqrt(energy**2 + mass**2) - rest
    return Beam(
        particles,
        kind,
        energy,
        entries[0],
        direction / np.linalg.norm(direction, axis=1, keepdims=True),
        tuple(conditions),
        tuple(entry - entries[0] for entry in entries),
    )


def _number(number: int | None, counted: Array | None) -> int:
    if counted is not None and number not in (None, len(counted)):
        raise ConditionError(
            f"Got -n {number} and energies with counts that add to {len(counted)}; expected the "
            "same number: leave -n out."
        )
    chosen = len(counted) if counted is not None else number
    if chosen is None or chosen < 1:
        raise ConditionError(f"Got -n {chosen}; expected at least one shower.")
    return chosen


def _counted(text: str) -> Array | None:
    """The energies of "1000x50,2000x20", each as often as it says; None for other text."""
    if not _COUNTED.fullmatch(text):
        return None
    try:
        pairs = [part.split("x") for part in text.split(",")]
        return np.repeat([float(e) for e, _ in pairs], [int(n) for _, n in pairs])
    except ValueError:
        raise ConditionError(
            f"Got energy={text}; expected energies in MeV with counts, such as 1000x50,2000x20."
        ) from None


def _values(name: str, draw: Draw, text: str | None, u: Array) -> Array:
    """Values of one quantity from uniform numbers (N,)."""
    from caloforge.generate.conditions import parse_values

    if text is None and draw.default is not None:
        return np.full(len(u), draw.default)
    if text is None:
        return _over_range(draw, u)
    parsed: Spectrum | list[float] = parse_values(name, text)
    if isinstance(parsed, list):
        _check_range(name, draw, np.array(parsed))
        return np.array(parsed)[np.floor(u * len(parsed)).astype(np.int64)]
    _check_range(name, draw, np.array(parsed.numbers[-2:]))
    values = parsed.values(u)
    return np.round(values) if draw.scale == "category" else values


def _over_range(draw: Draw, u: Array) -> Array:
    if draw.scale == "category":
        return draw.low + np.floor(u * (draw.high - draw.low + 1))
    if draw.scale == "log":
        return draw.low * (draw.high / draw.low) ** u
    return draw.low + u * (draw.high - draw.low)


def _check_range(name: str, draw: Draw, values: Array) -> None:
    margin = 1e-9 * max(abs(draw.low), abs(draw.high))
    if values.min() < draw.low - margin or values.max() > draw.high + margin:
        raise ConditionError(
            f"Got {name} from {values.min():g} to {values.max():g}; expected values from "
            f"{draw.low:g} to {draw.high:g}, the range in the geometry file: choose others, or "
            "change the range there."
        )


def _conditions(
    geometry: Geometry,
    drawn: Mapping[str, Array],
    kind: NDArray[np.int64],
    particles: Sequence[Particle],
) -> Array:
    """Condition columns (N, C) of a read-out."""
    energy = drawn["energy"]
    columns = []
    for condition in geometry.conditions:
        if condition.role == "energy":
            columns.append(energy)
        elif condition.role == "particle":
            numbers = np.array([category_of(p, geometry) for p in particles], dtype=np.float64)
            columns.append(numbers[kind])
        elif condition.role == "momentum":
            columns.append(_momentum(geometry, condition.axis, drawn))
        else:
            columns.append(drawn[condition.name])
    return np.column_stack(columns)


def _momentum(geometry: Geometry, axis: str, drawn: Mapping[str, Array]) -> Array:
    """Component of the momentum along an axis, MeV; its length is the energy that was drawn."""
    slopes = {name: drawn[f"slope_{name}"] for name in particle_line(geometry).axes}
    length = np.sqrt(1 + sum(s**2 for s in slopes.values()))
    return drawn["energy"] / length * slopes.get(axis, np.ones(len(length)))

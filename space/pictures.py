"""HTML for the page, with embedded pictures: nothing is written to disk."""

import base64
import io
import statistics
from collections.abc import Sequence
from html import escape

import numpy as np
import torch
from canvas import IMAGE_FORMATS
from matplotlib import colormaps
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, NullFormatter, PercentFormatter
from models import Made, Model
from PIL import Image

from nnit_diffusers import MLP, EvaluationResult
from nnit_diffusers.folding import unfold_observation_statistics


_BLUE, _GREY = "#2563eb", "#94a3b8"
# Magnitudes above this quantile get the brightest colour. Otherwise a few large weights would leave all others dark.
_BRIGHTEST = 0.98


def _data_uri(png: bytes) -> str:
    return f"data:image/png;base64,{base64.b64encode(png).decode()}"


def _png(pixels: np.ndarray) -> bytes:
    """PNG of an image of bytes, `[H, W]` or `[H, W, 3]`."""
    content = io.BytesIO()
    Image.fromarray(pixels).save(content, "png")
    return content.getvalue()


def weight_magnitudes(network: MLP, model: Model) -> list[torch.Tensor]:
    """Magnitudes of each layer's weights for standardised inputs, `[outputs, inputs]`."""
    tokenizer = model.pipe.tokenizer.config
    state_dict = unfold_observation_statistics(
        network.state_dict(), tokenizer.observation_mean, tokenizer.observation_std
    )
    return [tensor.detach().abs() for tensor in state_dict.values() if tensor.ndim == 2]


def heat_map(network: MLP, model: Model) -> str:
    """A picture of every layer with one pixel per weight, which the page magnifies."""
    pictures = []
    for matrix in weight_magnitudes(network, model):
        outputs, inputs = matrix.shape
        # colours
        brightest = matrix.flatten().quantile(_BRIGHTEST).clamp(min=1e-12)
        colours = colormaps["magma"]((matrix / brightest).clamp(max=1).numpy(), bytes=True)[..., :3]
        # picture with its sizes
        pictures.append(
            f'<figure style="--inputs: {inputs}"><img src="{_data_uri(_png(colours))}" alt="Weights of a layer with '
            f'{inputs} inputs and {outputs} outputs"><figcaption>{inputs} → {outputs}</figcaption></figure>'
        )
    return f'<div class="heat-map">{"".join(pictures)}</div>'


def _percent(share: float) -> str:
    return f"{100 * share:.1f}%"


def score_bar(result: EvaluationResult) -> str:
    """A score and its interval as marks on a scale from 0 to 100%."""
    low, high = result.confidence_interval
    # R² can be below 0
    left, right, mark = (min(max(value, 0.0), 1.0) for value in (low, high, result.score))
    return (
        f'<div class="scale" role="img" aria-label="{_percent(low)} to {_percent(high)}">'
        f'<span class="interval" style="left: {100 * left:.2f}%; width: {100 * (right - left):.2f}%"></span>'
        f'<span class="mark" style="left: {100 * mark:.2f}%"></span></div>'
    )


def _facts(made: Made, model: Model) -> list[tuple[str, str, str]]:
    """Name, value and remark of each fact about the network shown."""
    # size and time
    architecture = made.shown.architecture
    steps = f"{1000 * made.seconds / len(made.networks):,.0f} ms"
    facts = [
        ("Parameters", f"{architecture.num_parameters:,}", "weights and biases"),
        ("Generated in", steps, "no training" if len(made.networks) == 1 else f"each, {len(made.networks)} at once"),
    ]
    # score first, if it is known
    if made.results:
        result = made.results[made.best]
        low, high = result.confidence_interval
        name = model.score_name
        facts.insert(0, (name, _percent(result.score), f"95% interval {100 * low:.1f} to {_percent(high)}"))
    return facts


def network_card(made: Made, model: Model, note: str = "") -> str:
    """Architecture, facts, score and weights of the network shown, and a summary of the others."""
    # layer sizes
    architecture = made.shown.architecture
    sizes = [architecture.in_features, *architecture.hidden_sizes, architecture.out_features]
    boxes = '<i aria-hidden="true">→</i>'.join(f"<b>{size}</b>" for size in sizes)
    # facts and score
    facts = "".join(
        f"<div><dt>{name}</dt><dd>{value}</dd><small>{remark}</small></div>"
        for name, value, remark in _facts(made, model)
    )
    bar = score_bar(made.results[made.best]) if made.results else ""
    return (
        f'<section class="card"><p class="sizes" aria-label="Architecture {architecture}">{boxes}</p>'
        f'<p class="novelty">{model.novelty(architecture)}</p><dl class="facts">{facts}</dl>{bar}'
        f'<p class="note">{escape(note) or summary(made, model)}</p>'
        f"<h3>Its weights, layer by layer</h3>{heat_map(made.shown, model)}"
        '<p class="note">One square per weight, inputs across and outputs down; brighter is larger.</p></section>'
    )


def summary(made: Made, model: Model) -> str:
    """What the score was measured on, and the scores of the other networks of the request."""
    if not made.results:
        return ""
    measured = f"Measured just now on {made.results[0].num_episodes} {model.unit}."
    if len(made.results) == 1:
        return measured
    scores = [result.score for result in made.results]
    return (
        f"{measured} This is the best of {len(scores)} networks, chosen by this score; their mean is "
        f"{_percent(statistics.fmean(scores))}, their minimum {_percent(min(scores))}."
    )


def readings(digit: np.ndarray | None, made: Made | None, model: Model) -> str:
    """The prediction of each generated network for a drawing."""
    # nothing to read, or no network to read it
    if made is None:
        return '<p class="empty">Generate networks first; they will then read what you draw.</p>'
    if digit is None:
        return '<p class="empty">Draw a digit to see what each generated network reads.</p>'
    # the drawing, and a row for each network
    picture = _png(255 - (digit * 255 / IMAGE_FORMATS[model.task.name].darkest).astype(np.uint8))
    size = f"{digit.shape[0]} × {digit.shape[1]} pixels"
    rows = "".join(
        f'<li><strong>{int(row.argmax())}</strong><div class="bars" role="img" aria-label="Probabilities of network '
        f'{index + 1}">{"".join(_bar(digit_class, float(share)) for digit_class, share in enumerate(row))}</div>'
        f"<small>{100 * float(row.max()):.0f}%</small></li>"
        for index, row in enumerate(model.read(made.networks, digit))
    )
    return (
        f'<div class="readings"><figure><img src="{_data_uri(picture)}" alt="The drawing in {size}">'
        f"<figcaption>input of the networks: {size}</figcaption></figure><ol>{rows}</ol></div>"
    )


def _bar(digit_class: int, share: float) -> str:
    bar = f'<i style="height: {100 * share:.1f}%"></i>'
    return f'<span title="{digit_class}: {_percent(share)}">{bar}{digit_class}</span>'


def comparison(all_made: Sequence[Made], model: Model) -> str:
    """Table and plot of networks of several sizes."""
    # a row for each size
    rows = []
    for made in all_made:
        architecture = made.shown.architecture
        scores = [result.score for result in made.results]
        mean = _percent(statistics.fmean(scores))
        spread = f"{100 * min(scores):.1f} to {_percent(max(scores))}"
        rows.append(
            f"<tr><th>{' × '.join(map(str, architecture.hidden_sizes))}</th><td>{architecture.num_parameters:,}</td>"
            f"<td><strong>{mean}</strong><small>{spread}</small></td>"
            f"<td>{1000 * made.seconds / len(made.networks):,.0f} ms</td></tr>"
        )
    # table, plot and note
    name = model.score_name
    num_networks, num_episodes = len(all_made[0].networks), all_made[0].results[0].num_episodes
    return (
        f'<section class="card"><table class="sizes-table"><thead><tr><th>Layers</th><th>Parameters</th>'
        f"<th>{name}</th><th>Time</th></tr></thead><tbody>{''.join(rows)}</tbody></table>"
        f'<img class="plot" src="{_data_uri(plot_comparison(all_made, name))}" alt="{name} against parameters">'
        f'<p class="note">{num_networks} networks of each size on {num_episodes} {model.unit}: their mean, with the '
        "minimum and the maximum below it. Time is for generating one network.</p></section>"
    )


def plot_comparison(all_made: Sequence[Made], name: str) -> bytes:
    """PNG of scores over parameters, with a point for every network and a line through the means."""
    # points and means
    figure = Figure(figsize=(4.4, 3.0), dpi=180, layout="constrained")
    axes = figure.subplots()
    counts = [made.shown.architecture.num_parameters for made in all_made]
    means = [statistics.fmean(result.score for result in made.results) for made in all_made]
    for count, made in zip(counts, all_made):
        scores = [result.score for result in made.results]
        axes.plot([count] * len(scores), scores, "o", color=_GREY, alpha=0.6, markersize=5, markeredgewidth=0)
    axes.plot(counts, means, "o-", color=_BLUE, markersize=7)
    # layer sizes above the points
    for count, made in zip(counts, all_made):
        label = "×".join(map(str, made.shown.architecture.hidden_sizes))
        top = (count, max(result.score for result in made.results))
        axes.annotate(label, top, (0, 9), textcoords="offset points", ha="center", fontsize=9, color=_BLUE)
    # axes: logarithmic, with a tick at every size
    axes.set(xscale="log", xlabel="parameters", ylabel=name.lower())
    axes.margins(x=0.1, y=0.2)
    axes.set_xticks(counts)
    axes.xaxis.set_major_formatter(FuncFormatter(lambda count, _: f"{count / 1000:.1f}k"))
    axes.xaxis.set_minor_formatter(NullFormatter())
    axes.minorticks_off()
    axes.yaxis.set_major_formatter(PercentFormatter(1, decimals=1))
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(axis="y", alpha=0.25)
    content = io.BytesIO()
    figure.savefig(content, format="png")
    return content.getvalue()

"""Web demo that generates networks in a browser.

make space                              # from the root of the checkout, at http://127.0.0.1:7860
NNIT_MODELS=nnit/digits python app.py   # pipelines from the Hub, as a Space runs it
"""

import os


# Disables telemetry; these packages read the variables when first imported.
os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"
os.environ["HF_HUB_DISABLE_TELEMETRY"] = "1"

import argparse
import signal
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import gradio as gr
import torch
from canvas import CANVAS_SIDE, IMAGE_FORMATS, decode_drawing
from models import DOWNLOADS, MAX_NETWORKS, MAX_SEED, MAX_STEPS, NUM_FILMED, Made, Model, Request, model_names
from pictures import comparison, network_card, readings

from nnit_diffusers.cli.main import is_users
from nnit_diffusers.tasks.maniskill.environments import NoVulkanDeviceError


HERE = Path(__file__).parent
FILES_KEPT_SECONDS = 1800
MAX_WAITING = 16
DEFAULT_NETWORKS = 4
MAX_VISITORS = 200
HEAD = """<div class="head"><h1>Neural networks, generated</h1><p>Choose an architecture, and a diffusion model
generates the weights of such a network in a fraction of a second. Nothing is trained while you wait, and the model may
never have seen that architecture. Then try the network out.</p></div>"""
EMPTY = '<p class="empty">Press <strong>Generate</strong>: the network will appear here.</p>'
CANVAS = f"""<div class="drawing">
<canvas width="{CANVAS_SIDE}" height="{CANVAS_SIDE}" aria-label="Draw a digit"></canvas>
<button type="button">Clear</button></div>"""
FREE, BUDGET = "I choose the shape", "The model chooses, within a budget"


def in_one_sentence(error: Exception) -> gr.Error:
    """An error message for the visitor; errors that the visitor did not cause are logged in full."""
    if is_users(error) or isinstance(error, NoVulkanDeviceError):
        return gr.Error(str(error).splitlines()[0], title="Not possible", print_exception=False)
    return gr.Error("Something went wrong on our side, and the error was logged.", title="Sorry")


class Page:
    """The page: its components and their event handlers.

    Parameters:
        models (`dict[str, Model]`): Pipelines to choose from, by name.
    """

    def __init__(self, models: dict[str, Model]):
        self.models = models
        self.first = next(iter(models.values()))

    # Event handlers.

    def generate(
        self, name: str, how: str, budget: int, networks: int, steps: int, seed: int, depth: int, *widths: int
    ) -> Iterator[tuple[Any, ...]]:
        """Shows the networks as soon as they are generated, then their scores, then a robot's video."""
        model = self.models[name]
        chosen, limit = (widths[:depth], None) if how == FREE else (None, budget)
        try:
            # generate
            made = model.generate(Request(chosen, limit, networks, steps, seed))
            reason = model.cannot_score()
            if model.is_robot:
                waiting = reason or "Running the network in simulation, which takes some seconds …"
                yield self._shown(made, network_card(made, model, waiting), None)
            # score and film
            if reason is None:
                model.score(made)
                yield self._shown(made, network_card(made, model), None)
            if model.is_robot and reason is None:
                yield self._shown(made, network_card(made, model), model.film(made))
        except Exception as error:
            raise in_one_sentence(error) from error

    def _shown(self, made: Made, card: str, film: tuple[str, int] | None) -> tuple[Any, ...]:
        label = None if film is None else f"The network in simulation: {film[1]} of {NUM_FILMED} episodes succeed"
        video = gr.Video(visible=False) if film is None else gr.Video(film[0], label=label, visible=True)
        return made, card, video, *(gr.DownloadButton(value=path, interactive=True) for path in made.export())

    def read(self, name: str, made: Made | None, ink: str | None) -> str:
        """The predictions of the generated networks for a drawing."""
        model = self.models[name]
        try:
            # another task may have been chosen since
            image = None
            if ink is not None and model.reads_drawings:
                image = IMAGE_FORMATS[model.task.name].convert(decode_drawing(ink))
            return readings(image, made, model)
        except Exception as error:
            raise in_one_sentence(error) from error

    def compare(self, name: str, widths: list[int], depth: int, networks: int, seed: int) -> str:
        """Compares networks of several sizes."""
        model = self.models[name]
        try:
            if reason := model.cannot_score():
                raise ValueError(reason)
            all_made = model.compare(widths, depth, networks, seed)
            return comparison(all_made, model)
        except Exception as error:
            raise in_one_sentence(error) from error

    # Components.

    def _architecture(self) -> None:
        """Inputs of a request."""
        first = self.first
        # given architecture
        self.how = gr.Radio([FREE, BUDGET], value=FREE, label="Shape")
        least, most = first.budgets
        with gr.Group() as self.free:
            self.depth = gr.Slider(1, first.max_depth, 2, step=1, label="Hidden layers")
            self.widths = [
                gr.Slider(
                    first.min_width, first.max_width, width, step=1, label=f"Width of layer {i + 1}", visible=i < 2
                )
                for i, width in enumerate(self._default_widths(first))
            ]
        # or a budget
        self.budget = gr.Slider(
            least, most, min(4000, most), step=10, label="Maximum parameters", visible=False, elem_id="budget"
        )
        # other options
        with gr.Accordion("More", open=False):
            self.networks = gr.Slider(
                1, MAX_NETWORKS, 1 if first.is_robot else DEFAULT_NETWORKS, step=1, label="Networks"
            )
            self.steps = gr.Slider(1, MAX_STEPS, first.default_steps, step=1, label="Denoising steps")
            self.seed = gr.Number(0, precision=0, minimum=0, maximum=MAX_SEED, label="Seed")

    def _default_widths(self, model: Model) -> list[int]:
        sizes = [48, 40] if model.max_width <= 128 else [model.max_width // 2] * 2
        return [*sizes, *[sizes[0]] * (max(each.max_depth for each in self.models.values()) - 2)]

    def _generate_tab(self) -> None:
        # inputs on the left, the network on the right
        with gr.Row():
            with gr.Column(scale=2, min_width=280):
                self._architecture()
                self.button = gr.Button("Generate", variant="primary", size="lg", elem_id="generate")
            with gr.Column(scale=3, min_width=280):
                self.card = gr.HTML(EMPTY, elem_id="card")
                self.video = gr.Video(visible=False, autoplay=True, loop=True, interactive=False, elem_id="video")
                with gr.Row():
                    self.downloads = [
                        gr.DownloadButton(
                            f"Download .{kind}", interactive=False, size="sm", elem_id=f"download-{kind}"
                        )
                        for kind in DOWNLOADS
                    ]
        # drawing, for networks that read digits
        with gr.Column(visible=self.first.reads_drawings) as self.drawing:
            gr.Markdown("### Draw a digit for the networks to read")
            with gr.Row():
                with gr.Column(scale=2, min_width=260):
                    javascript = (HERE / "canvas.js").read_text(encoding="utf-8")
                    self.canvas = gr.HTML(html_template=CANVAS, js_on_load=javascript, elem_id="canvas")
                with gr.Column(scale=3, min_width=280):
                    self.readings = gr.HTML(readings(None, None, self.first), elem_id="readings")

    def _compare_tab(self) -> None:
        # inputs on the left, the table on the right
        widths = self.first.compared_widths()
        with gr.Row():
            with gr.Column(scale=2, min_width=280):
                self.compared = gr.CheckboxGroup(widths, value=widths[:4], label="Widths")
                self.compared_depth = gr.Slider(1, self.first.max_depth, 2, step=1, label="Hidden layers")
                self.compared_networks = gr.Slider(2, MAX_NETWORKS, 4, step=1, label="Networks of each size")
                self.compare_button = gr.Button("Compare", variant="primary", size="lg", elem_id="compare")
            with gr.Column(scale=3, min_width=280):
                self.table = gr.HTML(
                    EMPTY.replace("Generate", "Compare").replace("network", "sizes"), elem_id="comparison"
                )

    def build(self) -> gr.Blocks:
        """The page, ready to be launched."""
        with gr.Blocks(title="NNiT: neural networks, generated", delete_cache=(600, FILES_KEPT_SECONDS)) as blocks:
            # state of a visit, deleted after some time
            self.made = gr.State(None, time_to_live=FILES_KEPT_SECONDS, delete_callback=_close)
            self.ink = gr.State(None, time_to_live=FILES_KEPT_SECONDS)
            # head, task and tabs
            gr.HTML(HEAD)
            self.task = gr.Dropdown(
                list(self.models),
                value=self.first.name,
                label="Task of the networks",
                elem_id="task",
            )
            with gr.Tabs():
                with gr.Tab("Generate"):
                    self._generate_tab()
                with gr.Tab("Compare sizes"):
                    self._compare_tab()
            self._connect()
        # One request at a time: visitors take turns in using a pipeline.
        return blocks.queue(max_size=MAX_WAITING, default_concurrency_limit=1)

    def _connect(self) -> None:
        """Connects the components to their event handlers."""
        private: dict[str, Any] = {"api_visibility": "private"}
        quiet = private | {"queue": False, "show_progress": "hidden"}
        # show the inputs that apply
        self.depth.change(self._show_widths, self.depth, self.widths, **quiet)
        self.how.change(
            lambda how: (gr.Group(visible=how == FREE), gr.Slider(visible=how == BUDGET)),
            self.how,
            [self.free, self.budget],
            **quiet,
        )
        # generate, then read the drawing
        request = [self.task, self.how, self.budget, self.networks, self.steps, self.seed, self.depth, *self.widths]
        shown = [self.made, self.card, self.video, *self.downloads]
        compute = private | {"concurrency_id": "pipeline"}
        reading = [self.task, self.made, self.ink]
        self.button.click(_close, self.made, None, **quiet).then(
            self.generate, request, shown, show_progress_on=self.card, **compute
        ).success(self.read, reading, self.readings, show_progress="hidden", **compute)
        self.canvas.input(_ink_of, None, self.ink, **quiet).then(
            self.read, reading, self.readings, show_progress="hidden", **compute
        )
        # compare
        self.compare_button.click(
            self.compare,
            [self.task, self.compared, self.compared_depth, self.compared_networks, self.seed],
            self.table,
            **compute,
        )
        # another task
        self.task.change(
            self._show_task,
            self.task,
            [
                *(*shown, *self.widths, self.depth, self.budget, self.networks, self.steps),
                *(self.drawing, self.readings, self.table, self.compared, self.compared_depth),
            ],
            **quiet,
        )

    def _show_widths(self, depth: int) -> list[Any]:
        return [gr.Slider(visible=index < depth) for index in range(len(self.widths))]

    def _show_task(self, name: str) -> list[Any]:
        """Applies the limits of another task and clears the results of the previous one."""
        model = self.models[name]
        least, most = model.budgets
        limits: dict[str, Any] = {"minimum": model.min_width, "maximum": model.max_width}
        widths = model.compared_widths()
        return [
            # cleared results
            *(None, EMPTY, gr.Video(None, visible=False), *(gr.DownloadButton(interactive=False) for _ in DOWNLOADS)),
            # limits and defaults of the inputs
            *(
                gr.Slider(value=width, visible=index < 2, **limits)
                for index, width in enumerate(self._default_widths(model))
            ),
            gr.Slider(value=2, maximum=model.max_depth),
            gr.Slider(minimum=least, maximum=most, value=min(max(4000, 2 * least), most)),
            1 if model.is_robot else DEFAULT_NETWORKS,  # episodes take time
            model.default_steps,
            # drawing, and the tab that compares sizes
            gr.Column(visible=model.reads_drawings),
            readings(None, None, model),
            "",
            gr.CheckboxGroup(widths, value=widths[:4]),
            gr.Slider(value=2, maximum=model.max_depth),
        ]


def _close(made: Made | None) -> None:
    if made is not None:
        made.close()


def _ink_of(event: gr.EventData) -> str:
    return event.ink


def load_models() -> dict[str, Model]:
    """Loads every pipeline and uses it once, so that visitors do not wait for one-time initialisation."""
    models = {name: Model(name) for name in model_names()}
    for model in models.values():
        made = model.generate(Request((model.min_width,), None, 1, 1, 0))
        if not model.is_robot:
            model.score(made)
        made.export()
        made.close()
    return models


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--port", type=int, default=7860)
    parser.add_argument("--host", default="0.0.0.0" if os.environ.get("SPACE_ID") else "127.0.0.1")
    parsed = parser.parse_args(arguments)
    # On a small shared machine, one thread is faster than several that wait for one another.
    torch.set_num_threads(1)
    # SIGTERM cleans up as Ctrl-C does.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    models = load_models()
    with tempfile.TemporaryDirectory(prefix="nnit-space-") as folder:
        # for visitors' files and gradio's copies of them
        tempfile.tempdir = os.environ["GRADIO_TEMP_DIR"] = folder
        try:
            launch(models, parsed.host, parsed.port)
        finally:
            for model in models.values():
                model.close()


def launch(models: dict[str, Model], host: str, port: int) -> None:
    """Serves the page until the program is stopped."""
    # colours and fonts
    theme = gr.themes.Soft(
        primary_hue="blue", font=["system-ui", "sans-serif"], font_mono=["ui-monospace", "monospace"]
    ).set(
        block_title_background_fill="transparent",
        block_title_background_fill_dark="transparent",
        block_title_text_color="*body_text_color",
        block_title_text_color_dark="*body_text_color",
        block_title_padding="0",
        body_background_fill="*neutral_50",
        body_background_fill_dark="*neutral_950",
    )
    # serve, without uploads
    Page(models).build().launch(
        server_name=host,
        server_port=port,
        theme=theme,
        css_paths=HERE / "style.css",
        footer_links=[],
        max_file_size=1,  # byte
        state_session_capacity=MAX_VISITORS,
        ssr_mode=False,
    )


if __name__ == "__main__":
    main()

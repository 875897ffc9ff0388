"""Teachers that are programs in a file: ONNX models, and programs of `torch.export`.

A teacher holds the content of its file, and builds the program again in the process that it is sent to.

Shape legend: N observations, I/O observation and action features.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ....checkpoints.archives import damaged, read_file
from ....checkpoints.onnx_graphs import read_model
from ....checkpoints.torch_programs import load_program, read_program
from ....loading.limits import shown
from .base import Teacher


_ONNX_TYPES = {"tensor(float)": np.float32, "tensor(double)": np.float64, "tensor(float16)": np.float16}


class _ProgramTeacher(Teacher):
    """A teacher whose program is built on its first call, also after it was sent to another process.

    Parameters:
        name (`str`): Path of the file.
        content (`bytes`): Content of the file.
    """

    def __init__(self, name: str, content: bytes):
        super().__init__(name)
        self.content = content
        self._run: Callable[[np.ndarray], np.ndarray] | None = None
        # build the program once here: the sizes come from it, and errors belong to the file
        rows, self.in_features = self._input_shape()
        if rows not in (None, 1):
            raise ValueError(f"The input of {name!r} must take any number of observations, or one, but takes {rows}.")
        self.is_single = rows == 1
        if self.in_features is not None:
            self.out_features = self._probe(self.in_features)

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_run": None}

    @abstractmethod
    def _input_shape(self) -> tuple[int | None, int | None]:
        """Rows and features of the input; `None` for a size that may vary."""

    @abstractmethod
    def _build(self) -> Callable[[np.ndarray], np.ndarray]:
        """The program, as a function of float32 observations."""

    def _probe(self, in_features: int) -> int | None:
        """Acts once, on zeros; returns the size of the action, or `None` for discrete ones."""
        actions = self._act(np.zeros((2, in_features), dtype=np.float32))
        is_discrete = actions.ndim == 1 and actions.dtype.kind in "iu"
        if len(actions) != 2 or (actions.ndim != 2 and not is_discrete):
            raise ValueError(
                f"The first output of {self.name!r} must be actions [N, O], but is of shape {list(actions.shape)} for "
                "2 observations."
            )
        return None if is_discrete else actions.shape[1]

    def _act(self, observations_NI: np.ndarray) -> np.ndarray:
        if self._run is None:
            self._run = self._build()
        inputs_NI = np.asarray(observations_NI, dtype=np.float32)
        try:
            if self.is_single:
                return np.concatenate([self._run(inputs_NI[row : row + 1]) for row in range(len(inputs_NI))])
            return self._run(inputs_NI)
        except Exception as error:  # what a program raises depends on what is in it
            reason = " ".join(str(error).split())[:200]
            raise ValueError(f"{self.name!r} can't run on observations {list(inputs_NI.shape)}: {reason}.") from error


class OnnxTeacher(_ProgramTeacher):
    """An ONNX model of one input `[N, I]` or `[1, I]`, run on one thread; its first output are the actions."""

    def _session(self) -> Any:
        try:
            import onnxruntime
        except ImportError as error:
            raise ImportError("A teacher in ONNX needs onnxruntime: `pip install nnit-diffusers[onnx]`.") from error
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        options.log_severity_level = 3
        try:
            return onnxruntime.InferenceSession(
                self.content, options, providers=["CPUExecutionProvider"], enable_fallback=0
            )
        except Exception as error:  # onnxruntime has a class for each of its codes, without a common base
            raise damaged(self.name, error) from error

    def _input_shape(self) -> tuple[int | None, int | None]:
        session = self._session()
        inputs = session.get_inputs()
        if len(inputs) != 1 or len(inputs[0].shape) != 2 or inputs[0].type not in _ONNX_TYPES:
            found = ", ".join(f"`{each.name}` {each.type} {each.shape}" for each in inputs) or "none"
            raise ValueError(f"{self.name!r} must have one input of numbers [N, I], but has {found}.")
        rows, features = (size if isinstance(size, int) else None for size in inputs[0].shape)
        return rows, features

    def _build(self) -> Callable[[np.ndarray], np.ndarray]:
        session = self._session()
        (observations,), outputs = session.get_inputs(), session.get_outputs()
        dtype = _ONNX_TYPES[observations.type]
        if outputs[0].type not in (*_ONNX_TYPES, "tensor(int64)", "tensor(int32)"):
            found = ", ".join(f"`{each.name}` {each.type}" for each in outputs)
            raise ValueError(f"The first output of {self.name!r} must be actions, but its outputs are {found}.")

        def run(inputs_NI: np.ndarray) -> np.ndarray:
            (actions,) = session.run([outputs[0].name], {observations.name: inputs_NI.astype(dtype)})
            return _as_actions(actions)

        return run


class ExportedTeacher(_ProgramTeacher):
    """A program of `torch.export` of one input `[N, I]` or `[1, I]`; its first output are the actions."""

    def _input_shape(self) -> tuple[int | None, int | None]:
        program = load_program(self.name, self.content)
        names = program.graph_signature.user_inputs
        values = [
            node.meta.get("val") for node in program.graph.nodes if node.op == "placeholder" and node.name in names
        ]
        if len(names) != 1 or len(values) != 1 or not isinstance(values[0], torch.Tensor) or values[0].ndim != 2:
            raise ValueError(f"{self.name!r} must have one input of numbers [N, I], but has {shown(list(names))}.")
        rows, features = (size if isinstance(size, int) else None for size in values[0].shape)
        return rows, features

    def _build(self) -> Callable[[np.ndarray], np.ndarray]:
        module = load_program(self.name, self.content).module()

        def run(inputs_NI: np.ndarray) -> np.ndarray:
            with torch.inference_mode():
                outputs = module(torch.from_numpy(inputs_NI))
            first = outputs[0] if isinstance(outputs, tuple | list) else outputs
            return _as_actions(first.cpu().numpy())

        return run


def _as_actions(actions: np.ndarray) -> np.ndarray:
    return actions if actions.dtype.kind in "iu" else actions.astype(np.float32)


def read_onnx(path: Path) -> OnnxTeacher:
    """The teacher in an ONNX file.

    Raises:
        `OSError`, `ValueError`: If the file is missing, damaged, or does not map observations to actions.
        `ImportError`: If onnxruntime is not installed.
    """
    # torch puts weights into a second file, which onnxruntime can't find from the content of the first
    has_weights_beside = path.with_name(f"{path.name}.data").is_file()
    return OnnxTeacher(str(path), read_model(path).SerializeToString() if has_weights_beside else read_file(path))


def read_exported(path: Path) -> ExportedTeacher:
    """The teacher in a file of `torch.export`, if it holds nothing that could run other code.

    Raises:
        `OSError`, `ValueError`: If the file is missing, damaged, holds more, or does not map observations to actions.
    """
    return ExportedTeacher(str(path), read_program(path))

"""Pipelines whose networks know what they are for."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType
from typing import Any

from huggingface_hub import try_to_load_from_cache

from ..contract import CONTRACT_NAME, FoldedStatistics, NetworkContract, ProvenanceRecord, contracts_from, contracts_to
from ..loading.local import find_folder, read_json_object
from ..loading.pipelines import SafePipeline
from ..provenance import package_version
from ..writing import write_json


_STATISTICS = ("observation_mean", "observation_std", "output_mean", "output_std")
_HUB_OPTIONS = ("cache_dir", "local_files_only", "revision", "token")


class ContractPipeline(SafePipeline):
    """A pipeline with a [`NetworkContract`] in `contract.json`, which every network that it generates gets.

    A pipeline of several tasks has one for each of them.
    """

    _contracts: Mapping[str | None, NetworkContract] = MappingProxyType({})

    @property
    def contract(self) -> NetworkContract | None:
        """What the networks mean, or `None`; setting one that does not fit their sizes raises `ValueError`."""
        return self._contracts.get(None)

    @contract.setter
    def contract(self, contract: NetworkContract | None) -> None:
        self.contracts = {} if contract is None else {None: contract}

    @property
    def contracts(self) -> Mapping[str | None, NetworkContract]:
        """The contracts by the names of their tasks, or by `None` if the pipeline has one task.

        Setting one that does not fit the sizes of the networks raises `ValueError`.
        """
        return self._contracts

    @contracts.setter
    def contracts(self, contracts: Mapping[str | None, NetworkContract]) -> None:
        for contract in contracts.values():
            contract.check_sizes(self.tokenizer.config.in_features, self.tokenizer.config.out_features)
        self._contracts = dict(contracts)

    def network_contract(
        self, contract: NetworkContract | None = None, *, task: str | None = None, **provenance: Any
    ) -> NetworkContract | None:
        """The contract of a network of this pipeline: with the statistics that are folded in, and its provenance.

        Parameters:
            contract ([`NetworkContract`], *optional*): What the network means; that of the pipeline by default.
            task (`str`, *optional*): What the network is for, in a pipeline of several tasks.
            provenance: Fields of [`ProvenanceRecord`] that the caller knows, such as `seed` and `index`.
        """
        contract = self.contracts.get(task) if contract is None else contract
        if contract is None:
            return None
        known = {"pipeline": public_name(self.name_or_path), "package_version": package_version(), **provenance}
        folded: dict[str, Any] = {name: self.tokenizer.config[name] for name in _STATISTICS}
        statistics = FoldedStatistics.from_dict({name: numbers or () for name, numbers in folded.items()})
        return replace(
            contract,
            folded=statistics if any(folded.values()) else None,
            provenance=ProvenanceRecord(**known),
        )

    def contracts_of(self, tasks: Sequence[str | None]) -> list[NetworkContract | None]:
        """The contracts of networks of these tasks; networks of one task share theirs."""
        of_each = {task: self.network_contract(task=task) for task in dict.fromkeys(tasks)}
        return [of_each[task] for task in tasks]

    @classmethod
    def from_pretrained(cls, pretrained_model_name_or_path: str | os.PathLike[str], **kwargs: Any) -> Any:
        pipeline = super().from_pretrained(pretrained_model_name_or_path, **kwargs)
        path = _contract_path(os.fspath(pretrained_model_name_or_path), kwargs)
        if path is not None:
            try:
                pipeline.contracts = contracts_from(read_json_object(path))
            except ValueError as error:
                raise ValueError(f"{str(path)!r} is not the contract of this pipeline: {error}") from error
        return pipeline

    @classmethod
    def download(cls, pretrained_model_name: str, **kwargs: Any) -> Any:
        folder = super().download(pretrained_model_name, **kwargs)
        # diffusers downloads the files of components alone
        if not os.path.isdir(pretrained_model_name):
            options = {name: kwargs[name] for name in _HUB_OPTIONS if kwargs.get(name) is not None}
            find_folder(pretrained_model_name, (CONTRACT_NAME,), **options)
        return folder

    def save_pretrained(self, save_directory: str | os.PathLike[str], *args: Any, **kwargs: Any) -> None:
        # before the other files: with `push_to_hub`, diffusers uploads the folder as soon as it has written them
        if self.contracts and not os.path.isfile(save_directory):
            write_json(Path(save_directory, CONTRACT_NAME), contracts_to(self.contracts))
        elif os.path.isdir(save_directory):
            Path(save_directory, CONTRACT_NAME).unlink(missing_ok=True)
        super().save_pretrained(save_directory, *args, **kwargs)


def public_name(name_or_path: str | None) -> str | None:
    """A repository by its name, and a folder by the last two parts of its path, without where it is on a machine."""
    if name_or_path is None or not (os.path.isdir(name_or_path) or os.path.isabs(name_or_path)):
        return name_or_path
    return "/".join(Path(name_or_path).resolve().parts[-2:])


def _contract_path(name: str, options: dict[str, Any]) -> Path | None:
    """The contract in a folder, or of a repository in the Hub's cache, where `download` has put it."""
    if os.path.isdir(name):
        path = Path(name, CONTRACT_NAME)
        return path if path.is_file() else None
    found = try_to_load_from_cache(name, CONTRACT_NAME, options.get("cache_dir"), options.get("revision"))
    return Path(found) if isinstance(found, str) else None

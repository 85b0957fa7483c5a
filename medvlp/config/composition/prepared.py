"""Prepared data as options of `data` that no file is needed for: `data=<source>` is `$MEDVLP_DATA/<source>/train`."""

from pathlib import Path

from hydra._internal.sources_registry import SourcesRegistry
from hydra.core.object_type import ObjectType
from hydra.plugins.config_source import ConfigResult, ConfigSource
from omegaconf import OmegaConf

from medvlp.config.composition.yaml_files import environment
from medvlp.config.rules import fault_of


def prepared_folder(name: str) -> Path:
    """Where `medvlp prep` puts a source's train, as recipes have it."""
    return Path(environment("MEDVLP_DATA", "data") or "data") / name / "train"


class PreparedData(ConfigSource):
    """Hydra's `data/<name>`, of whatever is prepared; it stands behind all folders, so that a file comes first."""

    @staticmethod
    def scheme() -> str:
        return "prepared"

    def available(self) -> bool:
        return True

    def is_group(self, config_path: str) -> bool:
        return config_path == "data"

    def is_config(self, config_path: str) -> bool:
        group, _, name = config_path.removesuffix(".yaml").rpartition("/")
        return group == "data" and not fault_of(name) and prepared_folder(name).is_dir()

    def list(self, config_path: str, results_filter: ObjectType | None) -> list[str]:
        return []

    def load_config(self, config_path: str) -> ConfigResult:
        name = config_path.removesuffix(".yaml").rpartition("/")[2]
        config = OmegaConf.create({"sources": {name: {"path": str(prepared_folder(name))}}})
        header: dict[str, str | None] = {"package": None}
        return ConfigResult(provider=self.provider, path=self.full_path(), config=config, header=header)


SourcesRegistry.instance().register(PreparedData)

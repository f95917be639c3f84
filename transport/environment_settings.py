"""What all groups of settings have in common."""

from __future__ import annotations

from pydantic_settings import (
    BaseSettings,
    EnvSettingsSource,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
)

__all__ = ["EnvironmentSettings"]


class EnvironmentSettings(BaseSettings):
    """Settings from the environment, and from a file where one is given."""

    model_config = SettingsConfigDict(frozen=True, extra="ignore", str_strip_whitespace=True)

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,  # noqa: ARG003 - named by pydantic
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Leave out sources that have none of the settings.

        A source examines the type of every setting before it looks for a value.
        """
        names = {name.lower() for name in settings_cls.model_fields}
        return (
            init_settings,
            *(
                source
                for source in (env_settings, dotenv_settings)
                if isinstance(source, EnvSettingsSource) and not names.isdisjoint(source.env_vars)
            ),
        )

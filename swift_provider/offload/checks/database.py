"""Checks that Synapse's database can be read, and is this homeserver's. Blocks."""

from __future__ import annotations

from contextlib import closing
from dataclasses import replace

from swift_provider.errors import SwiftProviderError
from swift_provider.offload.checks.findings import Findings
from swift_provider.offload.checks.steps import REQUEST_SECONDS
from swift_provider.offload.command.homeserver import Homeserver
from swift_provider.offload.command.same_database import place
from swift_provider.offload.database import Database
from swift_provider.offload.database_config import DatabaseConfig
from swift_provider.offload.jobs.prunable import Options
from swift_provider.offload.jobs.prune_rules import check_homeserver
from swift_provider.offload.media_names import shown


def check_database(homeserver: Homeserver) -> Findings:
    """Connect, and look whose media are in it."""
    findings = Findings()
    try:
        config = homeserver.database()
        if config is None:
            findings.wrong(
                "database",
                f"there is none in {homeserver.where}: give the file that has it with "
                "--homeserver-config-path",
            )
            return findings
        with closing(Database(_impatient(config))) as database:
            _judge(findings, config, database, homeserver.options.get("server_name"))
    except SwiftProviderError as error:
        findings.failed("database", error)
    return findings


def _judge(
    findings: Findings, config: DatabaseConfig, database: Database, owner: str | None
) -> None:
    of_database = database.homeserver(owner)
    check_homeserver(owner, of_database, Options(delete=False, unmarked=False, max_share=None))
    whose = f"with media of {shown(of_database)}" if of_database else "without local media yet"
    findings.ok("database", f"{shown(place(config))}, {whose}{_schema(database)}")


def _schema(database: Database) -> str:
    try:
        ((version,),) = database.rows("SELECT version FROM schema_version", ())
    except (SwiftProviderError, ValueError):
        return ""
    return f", Synapse's schema {version}"


def _impatient(config: DatabaseConfig) -> DatabaseConfig:
    if config.engine == "sqlite3":
        return config
    return replace(config, args={**config.args, "connect_timeout": round(REQUEST_SECONDS)})

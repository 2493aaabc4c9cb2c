"""Clusters within one engine, for tests: `one` has one shard and `two` has two, and every shard is the engine itself.

The engine cannot listen or replicate, so two things differ from a real cluster: statements are sent without ON CLUSTER, and the shards' tables have one copy. What is left is what the tests
are for: inserts and reads through distributed tables, from the statements that `layout` renders. With `two`, a row is written to one shard by its key and read from both, so twice.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from runstream_sinks import migrations
from runstream_sinks.clickhouse import Server, create_database
from runstream_sinks.layout import Cluster

if TYPE_CHECKING:
    from pathlib import Path

_SHARD = "<shard><internal_replication>true</internal_replication><replica><host>127.0.0.1</host><port>9000</port></replica></shard>"


def write_config(folder: Path, *, profile: str = "", grants: str = "") -> Path:
    """A configuration with the clusters, macros, and a keeper in memory; `profile` and `grants` (as users.xml has them) bound the engine's only user."""
    users = folder / "users.xml"
    users.write_text(
        f"<clickhouse><profiles><default>{profile}</default></profiles><quotas><default/></quotas>"
        f"<users><default><password></password><networks><ip>::/0</ip></networks><profile>default</profile><quota>default</quota>{grants}</default></users></clickhouse>"
    )
    config = folder / "config.xml"
    config.write_text(
        f"<clickhouse><tcp_port>9000</tcp_port><users_config>{users}</users_config><user_directories><users_xml><path>{users}</path></users_xml></user_directories>"
        f"<remote_servers><one>{_SHARD}</one><two>{_SHARD}{_SHARD}</two></remote_servers>"
        "<zookeeper><implementation>testkeeper</implementation></zookeeper><macros><shard>1</shard><replica>a</replica></macros></clickhouse>"
    )
    return config


def migrate(url: str, cluster: Cluster) -> Server:
    """Makes the tables and views of a cluster of this engine; a connection to them."""
    create_database(url, cluster.database)
    server = Server(url, cluster.database)
    for change in migrations.changes(migrations.bundled(), cluster):
        for statement in change.statements:
            alone = statement.replace(f" ON CLUSTER `{cluster.name}`", "")
            server.command(re.sub(r"ENGINE = Replicated(\w+)\('[^']*', '[^']*'(?:, (\w+))?\)", lambda found: f"ENGINE = {found[1]}({found[2] or ''})", alone))
    return server

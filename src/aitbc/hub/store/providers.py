"""What is remembered of a provider beyond its connection: how its work has turned out."""

from collections.abc import Mapping

from aitbc.core.jobs.reputation import Standing
from aitbc.hub.store.base import BaseStore, decode, encode


class Providers(BaseStore):
    def standing(self, address: str) -> Standing:
        with self._transaction() as session:
            rows = session.rows("SELECT record FROM provider WHERE address = ?", (address,))
        return decode(rows[0][0], Standing) if rows else Standing()

    def save_standings(self, standings: Mapping[str, Standing]) -> None:
        with self._transaction() as session:
            session.run_many(
                "INSERT INTO provider (address, record) VALUES (?, ?)"
                " ON CONFLICT (address) DO UPDATE SET record = excluded.record",
                [(address, encode(standing)) for address, standing in sorted(standings.items())],
            )

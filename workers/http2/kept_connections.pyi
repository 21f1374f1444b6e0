from typing import final

from workers.core.keeper import Keeper

@final
class KeptConnections(Keeper):
    def slots(self) -> dict[str, int]: ...

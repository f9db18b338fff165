"""What the follower sees of the chain."""

from typing import Final

from fastapi import APIRouter

from memepool_chain import headerstore
from memepool_chain.headerstore import NotInitializedError
from memepool_common.web.deps import ReadSessionDep
from memepool_rounds.api.deps import SettingsDep
from memepool_rounds.api.models import Chain, ChainTip, ReorganisationModel
from memepool_rounds.store import chain_view

REORGANISATIONS_SHOWN: Final = 20
router = APIRouter(tags=["rounds"])


@router.get("/rounds/chain")
async def get_chain(session: ReadSessionDep, settings: SettingsDep) -> Chain:
    """The tip as we checked it, the lag behind the source, recent reorganisations."""
    try:
        tip = await headerstore.tip(session)
    except NotInitializedError:
        tip = None
    seen = await chain_view.view(session)
    source_height = seen.source_height if seen else None
    lag_blocks = None
    if tip is not None and source_height is not None:
        lag_blocks = max(0, source_height - tip.height)
    past = await chain_view.recent_reorganisations(session, REORGANISATIONS_SHOWN)
    return Chain(
        network=settings.chain.network,
        tip=tip and ChainTip(height=tip.height, hash=tip.hash, version=tip.version),
        source_height=source_height,
        source_hash=seen.source_hash if seen else None,
        lag_blocks=lag_blocks,
        polled_at=seen.polled_at if seen else None,
        failing_since=seen.failing_since if seen else None,
        last_error=seen.last_error if seen else None,
        recent_reorganisations=[ReorganisationModel.of(each) for each in past],
    )

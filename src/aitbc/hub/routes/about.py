"""Who this hub is, whether it is well and what it serves."""

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from aitbc.core.codec.keytext import key_to_text
from aitbc.core.jobs.reasons import JobReason, Refused
from aitbc.core.jobs.units import PROFILES, kind_of, profile_digest
from aitbc.hub.gateway.errors import in_openai_shape
from aitbc.hub.http import Route, json_answer
from aitbc.hub.hub import Hub
from aitbc.hub.quotes import quoted_price


class Health(msgspec.Struct, frozen=True):
    status: str
    gpu: str
    """Devices of the connected providers; `none` without any."""
    model: str
    """Models that somebody serves now, separated by commas."""
    providers: int
    """Connected and registered, or about to be."""
    queued: int
    open_claims: int


class ModelView(msgspec.Struct, frozen=True):
    id: str
    object: str
    created: int
    owned_by: str
    kind: str
    profile: str
    """Digest of the unit formula."""
    price_per_kilounit: int
    """Dearest offer in base units for 1,000 compute units: what a quote is made with."""
    providers: int


class ModelList(msgspec.Struct, frozen=True):
    object: str
    data: list[ModelView]


class HubView(msgspec.Struct, frozen=True):
    address: str
    pubkey: str
    chain_id: str
    genesis_hash: str


async def health(request: Request) -> Response:
    """Seed 003's health answer, for the whole pool."""
    hub: Hub = request.app.state.hub
    ready = [session for session in hub.directory.sessions() if session.serves]
    devices = sorted({session.device for session in ready})
    models = sorted({model for session in ready for model in session.serves})
    return json_answer(
        Health(
            status="ok",
            gpu=", ".join(devices) or "none",
            model=", ".join(models),
            providers=len(ready),
            queued=len(hub.matcher),
            open_claims=hub.claims.open,
        )
    )


async def models(request: Request) -> Response:
    """The models that can be asked for now, in OpenAI's list shape."""
    hub: Hub = request.app.state.hub
    views = [_model_view(hub, model) for model in sorted(PROFILES) if hub.directory.serving(model)]
    return json_answer(ModelList(object="list", data=views))


@in_openai_shape
async def one_model(request: Request) -> Response:
    """One model, if somebody serves it now."""
    hub: Hub = request.app.state.hub
    name = request.path_params["model"]
    if name not in PROFILES or not hub.directory.serving(name):
        raise Refused(JobReason.UNKNOWN_MODEL, f"nobody serves a model {name[:80]!r} now")
    return json_answer(_model_view(hub, name))


def _model_view(hub: Hub, model: str) -> ModelView:
    serving = hub.directory.serving(model)
    return ModelView(
        id=model,
        object="model",
        created=0,
        owned_by="aitbc",
        kind=kind_of(PROFILES[model]),
        profile=profile_digest(PROFILES[model]),
        price_per_kilounit=quoted_price(serving, model),
        providers=len(serving),
    )


async def identity(request: Request) -> Response:
    """The hub's address, key and chain."""
    hub: Hub = request.app.state.hub
    return json_answer(
        HubView(
            address=hub.signer.address,
            pubkey=key_to_text(hub.signer.auth_key),
            chain_id=hub.chain_id,
            genesis_hash=hub.genesis_hash.hex(),
        )
    )


ROUTES = [
    Route("GET", "/v1/health", health, "Is the hub well, and who works for it", Health),
    Route("GET", "/v1/models", models, "Models that are served now", ModelList),
    Route(
        "GET",
        "/v1/models/{model}",
        one_model,
        "A model that is served now",
        ModelView,
        refusals=(404,),
    ),
    Route("GET", "/v1/hub", identity, "Address, key and chain of this hub", HubView),
]

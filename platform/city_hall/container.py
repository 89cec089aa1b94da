"""The container: how every part of one instance is built, and from what.

Singletons only, nothing resolved while serving; each factory function states its types, so that a part that
does not fit a Protocol is found by the type checker and not at night.
"""

from __future__ import annotations

import os
from importlib.metadata import version

from dependency_injector import containers, providers

from city_hall import fleet_parts
from city_hall.front_desk import FrontDesk
from city_hall.gauges import Gauges
from city_hall.operation_rates import operation_rates
from city_hall.surfaces.catalogue import Catalogue
from foundations.invocation import Invocation
from foundations.operations import operations_of
from foundations.proxies import TrustedProxies
from foundations.rates import Rate
from foundations.settings import Settings
from foundations.supervision import Tasks
from foundations.telemetry import Counters, Exposition, LoopLag, Traces, traces_of
from foundations.valkey import Subscriptions, Valkey
from smart_city.nurse.health import Health
from smart_city.post_office.answers import Answers
from smart_city.post_office.channels import Channels
from smart_city.post_office.consumers import Consumers
from smart_city.post_office.fleet import Fleet
from smart_city.post_office.fleet.registry import Registry
from smart_city.post_office.gateway.admission import Admission
from smart_city.post_office.gateway.arriving import Arriving
from smart_city.post_office.gateway.backlog import Patience
from smart_city.post_office.gateway.credentials import Credentials
from smart_city.post_office.gateway.desk import Desk
from smart_city.post_office.gateway.draining import Drain
from smart_city.post_office.gateway.event_streams import EventStreams
from smart_city.post_office.gateway.gateway import Gateway
from smart_city.post_office.gateway.heartbeats import Heartbeats
from smart_city.post_office.gateway.hub import Hub
from smart_city.post_office.gateway.joining import Joining
from smart_city.post_office.gateway.listening import Listening
from smart_city.post_office.inbox import Inbox, InboxLimits
from smart_city.post_office.inbox.dispatch import Dispatcher
from smart_city.post_office.keep import Keep
from smart_city.post_office.log import ChannelLog, LogLimits
from smart_city.post_office.log.bus import Announcer
from smart_city.post_office.operations import Agents, Connections, DeadLetters, Observing, Publishing
from smart_city.traffic_cop.analytics import Analytics, Recorder
from smart_city.traffic_cop.attempts import Attempts
from smart_city.traffic_cop.identities import Identities
from smart_city.traffic_cop.limits import Limits
from smart_city.traffic_cop.operations import TrafficCop
from smart_city.traffic_cop.service_tokens import ServiceTokens
from smart_city.traffic_cop.sessions import Sessions


def _traces(settings: Settings) -> Traces:
    return traces_of(settings.instance_id, os.environ)


def _exposition(settings: Settings, counters: Counters) -> Exposition:
    return Exposition(counters, settings.instance_id)


def _subscriptions(settings: Settings, valkey: Valkey, tasks: Tasks) -> Subscriptions:
    return Subscriptions(valkey, tasks, canary_seconds=settings.canary_seconds)


def _sessions(settings: Settings, valkey: Valkey) -> Sessions:
    return Sessions(valkey, ticket_seconds=settings.ticket_seconds)


def _traffic_cop(
    settings: Settings, valkey: Valkey, sessions: Sessions, service_tokens: ServiceTokens, limits: Limits
) -> TrafficCop:
    return TrafficCop(valkey, sessions, service_tokens, limits, session_seconds=settings.session_seconds)


def _recorder(settings: Settings, valkey: Valkey, tasks: Tasks, counters: Counters, member: str) -> Recorder:
    return Recorder(valkey, tasks, counters, member=member, seconds=settings.traffic_seconds)


def _channels(settings: Settings) -> Channels:
    return Channels(settings.pillars)


def _heartbeats(settings: Settings, tasks: Tasks) -> Heartbeats:
    return Heartbeats(tasks, seconds=settings.heartbeat_seconds)


def _limits(settings: Settings, valkey: Valkey) -> Limits:
    calls = Rate(settings.calls_per_second, settings.calls_burst)
    user = Rate(settings.user_messages_per_second, settings.user_messages_burst)
    service = Rate(settings.service_messages_per_second, settings.service_messages_burst)
    return Limits(
        valkey, users={"messages": user, "calls": calls}, services={"messages": service, "calls": calls},
        addresses={
            "handshakes": Rate(settings.address_handshakes_per_second, settings.address_handshakes_burst),
            "failures": Rate(settings.address_failures_per_second, settings.address_failures_burst),
        },
        session_share=settings.session_share,
    )  # fmt: skip


def _keep(settings: Settings) -> Keep:
    return Keep(
        settings.held_bytes, user_share=settings.inbox_user_share, seconds=settings.held_seconds,
        after=settings.held_after_seconds,
    )  # fmt: skip


def _log(
    settings: Settings, valkey: Valkey, tasks: Tasks, announcer: Announcer, keep: Keep, subscriptions: Subscriptions
) -> ChannelLog:
    limits = LogLimits.within(
        count=settings.history_count, size=settings.history_bytes, age=settings.history_age_seconds,
        resume_window=fleet_parts.unheard_seconds(settings), idempotency=settings.idempotency_seconds,
    )  # fmt: skip
    return ChannelLog(
        valkey, tasks, limits, announcer, keep=keep, on_held=announcer.tell_ahead, heard_here=subscriptions.hearing
    )


def _inbox(settings: Settings, valkey: Valkey, tasks: Tasks, channels: Channels, member: str, keep: Keep) -> Inbox:
    limits = InboxLimits(
        count=settings.inbox_count, bytes=settings.inbox_bytes, user_share=settings.inbox_user_share,
        lease_seconds=settings.inbox_lease_seconds,
        tries=settings.inbox_tries, age_seconds=settings.inbox_age_seconds,
        key_seconds=settings.idempotency_seconds, other_taker_seconds=settings.inbox_other_taker_seconds,
        dead_count=settings.inbox_dead_count, dead_bytes=settings.inbox_dead_bytes,
        circuit_failures=settings.inbox_circuit_failures, circuit_share=settings.inbox_circuit_share,
        circuit_window_seconds=settings.inbox_circuit_window_seconds,
        circuit_cool_seconds=settings.inbox_circuit_cool_seconds, circuit_probes=settings.inbox_circuit_probes,
        circuit_room=settings.inbox_circuit_room,
    )  # fmt: skip
    return Inbox(valkey, tasks, limits, channels=channels.agents, instance_id=member, keep=keep)


def _answers(
    settings: Settings, valkey: Valkey, tasks: Tasks, log: ChannelLog, inbox: Inbox, counters: Counters,
    traces: Traces, keep: Keep,
) -> Answers:  # fmt: skip
    return Answers(
        valkey, tasks, log, inbox, counters, traces,
        gather_seconds=settings.stream_gather_ms / 1000, most_bytes=settings.max_message_bytes, keep=keep,
    )  # fmt: skip


def _dispatcher(
    settings: Settings, inbox: Inbox, answers: Answers, subscriptions: Subscriptions, tasks: Tasks,
    counters: Counters, traces: Traces, member: str,
) -> Dispatcher:  # fmt: skip
    return Dispatcher(
        inbox, answers, subscriptions, tasks, counters, traces, instance_id=member,
        instance_lease_seconds=settings.instance_lease_seconds,
    )  # fmt: skip


def _agents(
    consumers: Consumers, log: ChannelLog, hub: Hub, answers: Answers, dispatcher: Dispatcher, channels: Channels,
    draining: Drain,
) -> Agents:  # fmt: skip
    return Agents(
        consumers=consumers, log=log, hub=hub, answers=answers, dispatcher=dispatcher, channels=channels,
        draining=draining,
    )  # fmt: skip


def _desk(
    settings: Settings, log: ChannelLog, inbox: Inbox, joining: Joining, registry: Registry, channels: Channels,
    identities: Identities, limits: Limits, counters: Counters, traces: Traces, tasks: Tasks,
    dispatcher: Dispatcher, answers: Answers,
) -> Desk:  # fmt: skip
    return Desk(
        log=log, inbox=inbox, joining=joining, registry=registry, channels=channels, sessions=identities,
        limits=limits, counters=counters, traces=traces, tasks=tasks, dispatcher=dispatcher, answers=answers,
        max_subscriptions=settings.max_subscriptions, max_unanswered=settings.max_unanswered,
        max_message_bytes=settings.max_message_bytes, frame_seconds=settings.frame_seconds,
    )  # fmt: skip


def _arriving(settings: Settings, desk: Desk, hub: Hub) -> Arriving:
    return Arriving(
        desk, hub, instance_id=settings.instance_id, heartbeat_seconds=settings.heartbeat_seconds,
        handshake_seconds=settings.handshake_seconds, handshakes_at_once=settings.handshakes_at_once,
        patience_seconds=settings.handshake_patience_seconds,
    )  # fmt: skip


def _gateway(
    settings: Settings, desk: Desk, arriving: Arriving, credentials: Credentials, heartbeats: Heartbeats,
    draining: Drain,
) -> Gateway:  # fmt: skip
    origins = (*settings.allowed_origins, settings.public_origin)
    admission = Admission(origins, settings.max_connections, TrustedProxies(settings.trusted_proxies))
    return Gateway(
        desk, arriving, admission, credentials, heartbeats, draining=draining, instance_id=settings.instance_id,
        patience=Patience(settings.max_unsent_bytes, settings.stall_seconds), close_seconds=settings.close_seconds,
    )  # fmt: skip


def _draining(settings: Settings) -> Drain:
    return Drain(settings.drain_seconds)


def _event_streams(settings: Settings, desk: Desk, gateway: Gateway) -> EventStreams:
    return EventStreams(desk, gateway, heartbeat_seconds=settings.heartbeat_seconds)


def _listening(
    settings: Settings, hub: Hub, log: ChannelLog, channels: Channels, credentials: Credentials,
    identities: Identities, draining: Drain, counters: Counters,
) -> Listening:  # fmt: skip
    return Listening(
        hub=hub, log=log, channels=channels, credentials=credentials, sessions=identities, draining=draining,
        counters=counters, most=settings.max_listeners, most_per_caller=settings.max_connections_per_user,
        most_channels=settings.max_subscriptions,
    )  # fmt: skip


def _health(settings: Settings, valkey: Valkey, subscriptions: Subscriptions, gateway: Gateway) -> Health:
    return Health(instance_id=settings.instance_id, store=valkey, bus=subscriptions, gateway=gateway)


def _identities(settings: Settings, sessions: Sessions, service_tokens: ServiceTokens, limits: Limits) -> Identities:
    return Identities(
        sessions, service_tokens, Attempts(limits), operator_token=settings.operator_token.get_secret_value(),
        cache_seconds=settings.identity_cache_seconds,
    )  # fmt: skip


def _publishing(
    settings: Settings, log: ChannelLog, inbox: Inbox, channels: Channels, registry: Registry, fleet: Fleet,
    limits: Limits,
) -> Publishing:  # fmt: skip
    return Publishing(
        log=log, inbox=inbox, channels=channels, registry=registry, fleet=fleet, limits=limits,
        max_message_bytes=settings.max_message_bytes,
    )  # fmt: skip


def _observing(
    settings: Settings, log: ChannelLog, inbox: Inbox, channels: Channels, fleet: Fleet, identities: Identities
) -> Observing:
    return Observing(
        log=log, inbox=inbox, channels=channels, fleet=fleet, tickets=identities, websocket_url=settings.public_ws_url
    )


def _dead_letters(inbox: Inbox, channels: Channels) -> DeadLetters:
    return DeadLetters(inbox=inbox, channels=channels)


def _connections(channels: Channels, registry: Registry, fleet: Fleet) -> Connections:
    return Connections(channels=channels, registry=registry, fleet=fleet)


def _gauges(
    exposition: Exposition, valkey: Valkey, inbox: Inbox, fleet: Fleet, keep: Keep, loop_lag: LoopLag
) -> Gauges:
    return Gauges(
        exposition, valkey=valkey, inbox=inbox, fleet=fleet, keep=keep, loop_lag=loop_lag,
        version=version("smart-city"),
    )  # fmt: skip


def _catalogue(
    traffic_cop: TrafficCop, analytics: Analytics, publishing: Publishing, agents: Agents, connections: Connections,
    observing: Observing, dead_letters: DeadLetters,
) -> Catalogue:  # fmt: skip
    return Catalogue(
        (
            *operations_of(publishing, "post_office"),
            *operations_of(agents, "post_office"),
            *operations_of(connections, "post_office"),
            *operations_of(observing, "post_office"),
            *operations_of(dead_letters, "post_office"),
            *operations_of(traffic_cop, "traffic_cop"),
            *operations_of(analytics, "traffic_cop"),
        )
    )


def _invocation(
    settings: Settings, limits: Limits, counters: Counters, traces: Traces, catalogue: Catalogue
) -> Invocation:
    limits.hold(operation_rates(catalogue, settings.operation_rates))
    return Invocation(limits, counters, traces)


class City(containers.DeclarativeContainer):
    """One instance. Settings, store and tasks come from outside; everything else is built from them once."""

    settings: providers.Provider[Settings] = providers.Dependency(instance_of=Settings)
    valkey: providers.Provider[Valkey] = providers.Dependency(instance_of=Valkey)
    tasks: providers.Provider[Tasks] = providers.Dependency(instance_of=Tasks)

    member = providers.Singleton(fleet_parts.member_name, settings)
    counters = providers.Singleton(Counters)
    loop_lag = providers.Singleton(LoopLag)
    traces = providers.Singleton(_traces, settings)
    exposition = providers.Singleton(_exposition, settings, counters)
    subscriptions = providers.Singleton(_subscriptions, settings, valkey, tasks)
    instance_lease = providers.Singleton(fleet_parts.instance_lease, settings, valkey, tasks)

    # Traffic Cop
    sessions = providers.Singleton(_sessions, settings, valkey)
    service_tokens = providers.Singleton(ServiceTokens, valkey)
    limits = providers.Singleton(_limits, settings, valkey)
    identities = providers.Singleton(_identities, settings, sessions, service_tokens, limits)
    traffic_cop = providers.Singleton(_traffic_cop, settings, valkey, sessions, service_tokens, limits)
    analytics = providers.Singleton(Analytics, valkey)
    recorder = providers.Singleton(_recorder, settings, valkey, tasks, counters, member)
    front_desk = providers.Singleton(FrontDesk, traffic_cop)

    # Post Office
    channels = providers.Singleton(_channels, settings)
    announcer = providers.Singleton(Announcer)
    keep = providers.Singleton(_keep, settings)
    log = providers.Singleton(_log, settings, valkey, tasks, announcer, keep, subscriptions)
    inbox = providers.Singleton(_inbox, settings, valkey, tasks, channels, member, keep)
    ownership = providers.Singleton(fleet_parts.ownership, settings, valkey, member)
    subscribers = providers.Singleton(fleet_parts.subscribers, settings, valkey, tasks, instance_lease)
    directory = providers.Singleton(fleet_parts.directory, settings, valkey)
    registry = providers.Singleton(fleet_parts.registry, settings, directory, ownership, subscribers, tasks)
    takeovers = providers.Singleton(fleet_parts.takeovers, valkey, subscriptions, tasks, member)
    windows = providers.Singleton(fleet_parts.windows, settings, ownership, log, tasks)
    fleet = providers.Singleton(
        fleet_parts.fleet, settings, valkey, subscriptions, tasks, counters, subscribers, member
    )
    answers = providers.Singleton(_answers, settings, valkey, tasks, log, inbox, counters, traces, keep)
    dispatcher = providers.Singleton(
        _dispatcher, settings, inbox, answers, subscriptions, tasks, counters, traces, member
    )
    succession = providers.Singleton(fleet_parts.succession, dispatcher, tasks, fleet)
    hub = providers.Singleton(Hub, log, subscriptions, tasks, counters, traces)
    joining = providers.Singleton(Joining, hub, log, tasks, counters)
    desk = providers.Singleton(
        _desk, settings, log, inbox, joining, registry, channels, identities, limits, counters, traces, tasks,
        dispatcher, answers,
    )  # fmt: skip
    credentials = providers.Singleton(Credentials, identities, tasks)
    heartbeats = providers.Singleton(_heartbeats, settings, tasks)
    draining = providers.Singleton(_draining, settings)
    arriving = providers.Singleton(_arriving, settings, desk, hub)
    gateway = providers.Singleton(_gateway, settings, desk, arriving, credentials, heartbeats, draining)
    event_streams = providers.Singleton(_event_streams, settings, desk, gateway)
    listening = providers.Singleton(
        _listening, settings, hub, log, channels, credentials, identities, draining, counters
    )
    consumers = providers.Singleton(Consumers, valkey)

    # What the city may be asked
    publishing = providers.Singleton(_publishing, settings, log, inbox, channels, registry, fleet, limits)
    agents = providers.Singleton(_agents, consumers, log, hub, answers, dispatcher, channels, draining)
    observing = providers.Singleton(_observing, settings, log, inbox, channels, fleet, identities)
    connections = providers.Singleton(_connections, channels, registry, fleet)
    dead_letters = providers.Singleton(_dead_letters, inbox, channels)
    catalogue = providers.Singleton(
        _catalogue, traffic_cop, analytics, publishing, agents, connections, observing, dead_letters
    )
    invocation = providers.Singleton(_invocation, settings, limits, counters, traces, catalogue)
    gauges = providers.Singleton(_gauges, exposition, valkey, inbox, fleet, keep, loop_lag)
    health = providers.Singleton(_health, settings, valkey, subscriptions, gateway)

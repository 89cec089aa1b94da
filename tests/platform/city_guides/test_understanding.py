"""What sentences ask for."""

from __future__ import annotations

import pytest

from city_guides.guide import GUIDE
from city_guides.pillars import BUSINESS_OUTCOMES, CONTENT, INSIGHTS, OPERATIONS, PILLARS
from city_guides.specialist import Specialist, Topic
from city_guides.understanding import addressee_in, channel_in, choose, subject_of, words_of


@pytest.mark.parametrize(
    ("sentence", "meant"),
    [
        ("What is this platform?", "explain"),
        ("help", "explain"),
        ("How does this gateway work?", "explain"),
        ("List the channels, please", "channels"),
        ("how many channels are there", "channels"),
        ("Who is there?", "people"),
        ("list the instances", "operations"),
        ("Is there any news?", "content"),
        ("who is on pillar:content", "people"),
        ("How many connections do we have?", "people"),
        ("Is everything healthy?", "health"),
        ("how is valkey doing", "health"),
        ("search water main", "content"),
        ("What is new?", "content"),
        ("How many messages went through, and how fast?", "insights"),
        ("Which channels are the busiest?", "insights"),
        ("which instances are running", "operations"),
        ("How long are the queues?", "operations"),
        ("queue status", "operations"),
        ("How many questions were answered?", "business_outcomes"),
        ("how many visitors did we have", "business_outcomes"),
        ("ask operations whether all is well", "operations"),
        ("Please forward this to the pillar:content", "content"),
        ("ask business how many people there are", "business_outcomes"),
    ],
)
def test_the_guide_understands_plain_questions(sentence: str, meant: str) -> None:
    choice = GUIDE.choose(sentence)
    assert (choice.name if isinstance(choice, Topic) else choice and choice.realm) == meant


@pytest.mark.parametrize("sentence", ["", "hello", "¿qué?", "what can you do", "ask the wizard"])
def test_what_nobody_knows_is_nobodys(sentence: str) -> None:
    assert GUIDE.choose(sentence) is None


@pytest.mark.parametrize(
    ("pillar", "sentence", "meant"),
    [
        (CONTENT, "search the newest news for fire", "latest"),
        (CONTENT, "find articles that mention fire", "search"),
        (INSIGHTS, "how many messages", "messages"),
        (OPERATIONS, "inboxes", "queues"),
        (OPERATIONS, "workers", "instances"),
        (BUSINESS_OUTCOMES, "how many answers", "outcomes"),
        (BUSINESS_OUTCOMES, "visits", "visitors"),
    ],
)
def test_pillars_understand_questions_in_their_field(pillar: Specialist, sentence: str, meant: str) -> None:
    choice = pillar.choose(sentence)
    assert isinstance(choice, Topic)
    assert choice.name == meant


@pytest.mark.parametrize("specialist", [GUIDE, *PILLARS])
def test_every_offer_leads_to_its_topic(specialist: Specialist) -> None:
    for topic in specialist.topics:
        assert specialist.choose(topic.offer) is topic
        assert topic.offer in specialist.offers


def test_words_are_lower_case_and_singular() -> None:
    assert words_of("Queues, STATUS & business_outcomes: 7 analysis") == [
        "queue", "status", "business", "outcome", "7", "analysis",
    ]  # fmt: skip


def test_the_subject_is_what_is_left() -> None:
    assert subject_of("Please search for the water mains", frozenset({"search"})) == ["water", "main"]


def test_channels_and_addressees_are_found_by_name() -> None:
    assert channel_in("Who is on Pillar:Business_Outcomes?") == "pillar:business_outcomes"
    assert channel_in("and on the guide.") == "guide"
    assert channel_in("guidelines") == ""
    assert addressee_in("please forward it to pillar:insights: how fast?") == "insights"
    assert addressee_in("asking nobody") == ""


def test_the_first_of_equals_is_chosen() -> None:
    assert choose(GUIDE.topics, "platform channel") is GUIDE.topics[0]

"""Asks the agents of a channel, and prints the answer as it comes: ask.py CHANNEL QUESTION."""

import asyncio
import os
import sys

from city_client import CityClient


async def main(channel: str, question: str) -> None:
    url = os.environ.get("SMART_CITY_URL", "http://127.0.0.1:8000")
    async with CityClient(url, token=os.environ["SMART_CITY_TOKEN"]) as city:
        async for part in city.ask(channel, question):
            print(part, end="", flush=True)
        print()


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))

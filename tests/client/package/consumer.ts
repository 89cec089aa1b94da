/** A program in TypeScript that uses the packed client: it is type-checked, not run. */

import { City, CityError, OWN_CODES, positionText } from "smart-city-client";
import type { Acknowledged, Message, State } from "smart-city-client";

export async function use(token: string): Promise<string> {
  const city = City.shared("https://city.example", { token });
  const off = city.on("state", (state: State) => {
    if (state.phase === "connected") console.log(state.welcome.user_id);
  });
  city.on("reset", ({ channel, reason }) => console.log(channel.length, reason.length));
  for await (const part of city.ask("guide", "Who is there?", { conversationId: "c" })) console.log(part.text);
  const { text } = await city.ask("guide", { message: "Who is there?" });
  const sent: Acknowledged = await city.publish("guide", { message: text }, { key: "k" });
  const reader = city.listen("guide", { since: "41.k3f9", signal: AbortSignal.timeout(1000) });
  for await (const message of reader) console.log(of(message), sent.position && positionText(sent.position));
  const { channels } = await city.call("post_office.list_channels", {}, { key: "k" });
  // @ts-expect-error: there is no such event
  city.on("publication", () => {});
  // @ts-expect-error: a position is text or an object
  city.listen("guide", { since: 41 });
  off();
  return String(channels);
}

function of({ offset, payload, gap }: Message): string {
  return `${offset} ${String(payload["message"])} ${gap?.reason ?? ""}`;
}

export function isOver(error: unknown): boolean {
  return error instanceof CityError && error.code === OWN_CODES.ended;
}

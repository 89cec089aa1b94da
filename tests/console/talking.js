/** A talk over a connection whose other end the test holds. */

import { City } from "../../platform/city_hall/console/client/index.js";
import { Talk, answersIn } from "../../platform/city_hall/console/model/talk.js";
import { World, join } from "../client/world.js";

export { join, publication, response, welcome } from "../client/world.js";

export const CHANNELS = ["guide", "pillar:content"];

/** A talk that is not connected yet, going on from what was kept. */
export async function talking(kept = {}) {
  const world = new World();
  const city = new City("http://city.test", { world, past: kept.past, answers: answersIn(kept) });
  const talk = new Talk(city, CHANNELS, kept, world.clock.now);
  await null;
  return { world, city, talk };
}

/** A talk whose first connection is up, subscribed at offset 40 of every channel. */
export async function connected() {
  const all = await talking();
  const news = [];
  all.talk.news.listen(({ text }) => news.push(text));
  join(all.world.socket);
  return { ...all, news };
}

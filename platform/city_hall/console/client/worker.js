/** The script of the SharedWorker: one hall for all tabs of this origin. */

import { Address } from "./addresses.js";
import { realClock } from "./clock.js";
import { Hall } from "./hall.js";
import { hold, whenFree } from "./locks.js";

/** @import { Encoding } from "./addresses.js" */

const opening = hold().then((own) => new Hall(worldOf, realClock, { own, whenFree }));

addEventListener("connect", async (event) => {
  const [port] = /** @type {MessageEvent} */ (event).ports;
  const hall = await opening;
  if (port) hall.receive(port);
});

/**
 * @param {string} url
 * @param {Encoding} encoding
 */
function worldOf(url, encoding) {
  const address = new Address(url, "", encoding);
  return { openSocket: address.openSocket.bind(address), clock: realClock, random: Math.random };
}

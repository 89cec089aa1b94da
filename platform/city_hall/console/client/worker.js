/** The script of the SharedWorker: one hall for all tabs of this origin. */

import { Address } from "./addresses.js";
import { realClock } from "./clock.js";
import { Hall } from "./hall.js";

const hall = new Hall((url, encoding) => {
  const address = new Address(url, "", encoding);
  return { openSocket: address.openSocket.bind(address), clock: realClock, random: Math.random };
}, realClock);

addEventListener("connect", (event) => {
  const [port] = /** @type {MessageEvent} */ (event).ports;
  if (port) hall.receive(port);
});

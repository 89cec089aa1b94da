/** The public entry of the client: what it exports is what may be relied on. */

export { delayBefore } from "./backoff.js";
export { City } from "./city.js";
export { realClock } from "./clock.js";
export { CityError, OperationError, OWN_CODES } from "./errors.js";
export { newKey } from "./frames.js";
export { positionOf, positionText } from "./messages.js";
export { call, operationUrl } from "./operations.js";
export { Part, Reply } from "./asking.js";
export { Signal } from "./signal.js";

/** @typedef {import("./answers.js").Answer} Answer */
/** @typedef {import("./answers.js").AnswerState} AnswerState */
/** @typedef {import("./asking.js").Asking} Asking */
/** @typedef {import("./addresses.js").Encoding} Encoding */
/** @typedef {import("./city.js").AskOptions} AskOptions */
/** @typedef {import("./city.js").CityOptions} CityOptions */
/** @typedef {import("./city.js").SendOptions} SendOptions */
/** @typedef {import("./clock.js").Clock} Clock */
/** @typedef {import("./closing.js").Verdict} Verdict */
/** @typedef {import("./connection.js").Passing} Passing */
/** @typedef {import("./connection.js").State} State */
/** @typedef {import("./engine.js").Past} Past */
/** @typedef {import("./engine.js").World} World */
/** @typedef {import("./errors.js").Refusal} Refusal */
/** @typedef {import("./errors.js").WrongField} WrongField */
/** @typedef {import("./letters.js").Acknowledged} Acknowledged */
/** @typedef {import("./listening.js").Listening} Listening */
/** @typedef {import("./messages.js").Channels} Channels */
/** @typedef {import("./messages.js").Gap} Gap */
/** @typedef {import("./messages.js").Message} Message */
/** @typedef {import("./messages.js").Since} Since */
/** @typedef {import("./operations.js").CallOptions} CallOptions */
/** @typedef {import("./outgoing.js").Progress} Progress */
/** @typedef {import("./protocol.js").Payload} Payload */
/** @typedef {import("./protocol.js").Position} Position */
/** @typedef {import("./protocol.js").Sender} Sender */
/** @typedef {import("./tab.js").Kinds} Kinds */
/** @typedef {import("./tab.js").ProgressTold} ProgressTold */

/**
 * Which channel the address of a conversation names, so that back, forward and links work.
 */

const PREFIX = "#/chat/";

/** @param {string} channel */
export function linkTo(channel) {
  return PREFIX + encodeURIComponent(channel).replaceAll("%3A", ":");
}

/**
 * @param {string} hash
 * @param {string[]} channels the first is where one arrives
 */
export function channelIn(hash, channels) {
  const named = hash.startsWith(PREFIX) ? decoded(hash.slice(PREFIX.length)) : "";
  return channels.includes(named) ? named : channels[0] ?? "guide";
}

/** @param {string} text */
function decoded(text) {
  try {
    return decodeURIComponent(text);
  } catch {
    return "";
  }
}

/** How channels are called and introduced. A channel without words of its own gets a plain introduction. */

import { FOR_YOU } from "./places.js";

/** @import { Sender } from "../client/index.js" */

/**
 * @typedef {{
 *   title: string, about: string, opening: string, line: string, questions: string[],
 * }} ChannelWords  `line` is the colour of its line on the map
 */

/** @type {Record<string, ChannelWords>} */
const KNOWN = {
  guide: {
    title: "Guide",
    about: "Knows the city and passes questions on",
    opening: "Where would you like to go?",
    line: "guide",
    questions: [
      "Explain this platform", "Who is there?", "Is everything healthy?", "Which instances are running?",
    ],
  },
  "pillar:content": {
    title: "Content",
    about: "Finds what was said on its channel",
    opening: "What are you looking for?",
    line: "content",
    questions: ["What is new?", "Search welcome"],
  },
  "pillar:insights": {
    title: "Insights",
    about: "Counts messages and tells what they add up to",
    opening: "What would you like to know?",
    line: "insights",
    questions: ["How many messages, and how fast?", "Which channels are the busiest?"],
  },
  "pillar:operations": {
    title: "Operations",
    about: "Watches instances and queues",
    opening: "What should we look after?",
    line: "operations",
    questions: ["Which instances are running?", "How long are the queues?"],
  },
  "pillar:business_outcomes": {
    title: "Business outcomes",
    about: "Keeps count of what was achieved since the start",
    opening: "What came of it all?",
    line: "outcomes",
    questions: ["How many questions were answered?", "How many visitors did we have?"],
  },
  [FOR_YOU]: {
    title: "For you",
    about: "Sent to you, not to a channel",
    opening: "Nothing has been sent to you yet.",
    line: "you",
    questions: [],
  },
};

/** @param {string} channel @returns {ChannelWords} */
export function wordsFor(channel) {
  return KNOWN[channel] ?? {
    title: titleOf(channel),
    about: channel,
    opening: "What would you like to ask?",
    line: "other",
    questions: [],
  };
}

/** Who sent something, for people. @param {Sender} sender */
export function nameOf({ name, id }) {
  return (name ?? id).replaceAll("_", " ");
}

/** A title for people: "pillar:night_life" becomes "Night life". @param {string} channel */
function titleOf(channel) {
  const name = channel.slice(channel.indexOf(":") + 1).replaceAll("_", " ");
  return name.charAt(0).toUpperCase() + name.slice(1);
}

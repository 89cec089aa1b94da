import assert from "node:assert/strict";
import { test } from "node:test";

import { channelIn, linkTo } from "../../platform/city_hall/console/ui/route.js";

const CHANNELS = ["guide", "pillar:content", "for you"];

test("every channel's link leads back to it", () => {
  for (const channel of CHANNELS) assert.equal(channelIn(linkTo(channel), CHANNELS), channel);
});

test("an address that names no channel leads to the first", () => {
  for (const hash of ["", "#", "#/elsewhere", "#/chat/nowhere", "#/chat/%E0%A4%A"]) {
    assert.equal(channelIn(hash, CHANNELS), "guide");
  }
});

/**
 * The words of the WebSocket protocol as types, for every other module. Nothing here runs; docs/protocol.md
 * says what each frame means.
 *
 * @typedef {{ offset: number, epoch: string }} Position
 * @typedef {Record<string, Position | null>} Places  channels, each with where to read on, or null for now
 * @typedef {Record<string, unknown>} Payload
 * @typedef {{ code: string, message: string }} Problem
 *
 * @typedef {{ kind: "user" | "agent" | "service", id: string, name?: string }} Sender
 *
 * @typedef {{
 *   type: "system", event: "welcome", connection_id: string, user_id: string, instance_id: string,
 *   resumed: boolean, heartbeat_seconds: number, max_message_bytes: number, channels: Places,
 * }} Welcome
 *
 * @typedef {{ type: "system", event: "session_expiring", expires_at: string }} SessionExpiring
 *
 * @typedef {{
 *   offset: number, epoch: string, recovered?: boolean, missed?: number, reason?: string,
 *   error?: undefined,
 * }} Joined
 * @typedef {{ error: Problem }} NotJoined
 *
 * @typedef {{
 *   type: "ack", id?: string, channel?: string, status?: "published" | "stored" | "queued" | "held",
 *   message_id?: string, offset?: number, epoch?: string, duplicate?: boolean,
 *   channels?: Record<string, Joined | NotJoined>,
 * }} Ack
 *
 * @typedef {{
 *   type: "message", channel: string, sender: Sender, intent?: string, payload: Payload, message_id: string,
 *   in_reply_to?: string, offset?: number, epoch?: string, timestamp: string, provisional?: boolean,
 * }} Publication
 *
 * @typedef {{
 *   type: "chat_response", channel: string, agent: string, in_reply_to: string, conversation_id?: string,
 *   payload: Payload, message_id: string, log: string, offset?: number, epoch?: string,
 *   stream?: "start" | "delta" | "end" | "error", part?: number, snapshot?: boolean,
 *   error?: Problem, retrying?: boolean, timestamp: string,
 * }} ChatResponse
 *
 * @typedef {{ type: "reset", channel: string, offset: number, epoch: string, reason: string }} Reset
 * @typedef {{ type: "unsubscribed", channel: string, code: string, message: string }} Unsubscribed
 * @typedef {{
 *   type: "error", code: string, message: string, retryable: boolean, retry_after?: number, id?: string,
 * }} ErrorFrame
 * @typedef {{ type: "heartbeat" }} Heartbeat
 *
 * @typedef {(
 *   Welcome | SessionExpiring | Ack | Publication | ChatResponse | Reset | Unsubscribed | ErrorFrame
 *   | Heartbeat
 * )} Frame  the frames that a client acts on; all others are ignored, as the protocol asks
 *
 * @typedef {{
 *   type?: "publish", channel: string, intent: string, payload: Payload, id: string, key: string,
 * }} MessageFrame  a message to the agents of a channel, or a publication to all who listen to it
 * @typedef {{ type: "subscribe", channels: Places, id: string }} SubscribeFrame
 * @typedef {{ type: "unsubscribe", channels: string[] }} UnsubscribeFrame
 * @typedef {{ type: "refresh", session_token: string, id: string }} RefreshFrame
 * @typedef {{ type: "stop", message_id: string, id: string }} StopFrame
 * @typedef {(
 *   MessageFrame | SubscribeFrame | UnsubscribeFrame | RefreshFrame | StopFrame | { type: "ping" }
 * )} ClientFrame
 */

export {};

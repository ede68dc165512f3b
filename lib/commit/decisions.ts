/**
 * What the commit protocol decides, as pure functions over facts. The committer and the cell read
 * the facts, ask here, and execute the answer.
 */

export interface CommitIdentity {
  readonly generation: number;
  readonly commitId: string;
}

export interface OutcomeFacts {
  readonly attempted: CommitIdentity;
  /** What a consistent read after the reply showed; null when there is no checkpoint. */
  readonly stored: CommitIdentity | null;
  readonly attempt: number;
  readonly attemptsMax: number;
}

/**
 * - `committed`: the stored checkpoint is ours.
 * - `lost`: another commit holds our generation, so ours can never be applied.
 * - `superseded`: the checkpoint is past our generation; ours may be among its ancestors.
 * - `retry`: nothing changed. The write may still arrive late, which the same commit id survives.
 * - `giveUp`: nothing changed, and the attempts are used up.
 * - `wentBack`: the store lost commits that it had acknowledged.
 */
export type Outcome = "committed" | "lost" | "superseded" | "retry" | "giveUp" | "wentBack";

/** I5: a write that was not acknowledged is resolved by what is stored, never assumed. */
export function resolveOutcome(facts: OutcomeFacts): Outcome {
  const { attempted, stored } = facts;
  const storedGeneration = stored?.generation ?? 0;
  if (storedGeneration > attempted.generation) return "superseded";
  if (storedGeneration === attempted.generation) {
    return stored?.commitId === attempted.commitId ? "committed" : "lost";
  }
  if (storedGeneration < attempted.generation - 1) return "wentBack";
  return facts.attempt < facts.attemptsMax ? "retry" : "giveUp";
}

/** State bytes kept in one object: pieces (a base or deltas) back to back. */
export interface StateObject {
  readonly key: string;
  readonly pieceBytes: readonly number[];
}

/** Where a checkpoint's state pieces are, in order: those in objects, then those in the item. */
export interface StatePlaces {
  readonly objects: readonly StateObject[];
  readonly inlinePieceBytes: readonly number[];
}

export interface PlacementFacts {
  readonly current: StatePlaces;
  readonly kind: "base" | "delta";
  readonly bytes: number;
  readonly payloadBytesMax: number;
  /** Key for an object, should one be needed. */
  readonly objectKey: string;
}

export interface Placement {
  readonly next: StatePlaces;
  /** The new piece follows the inline pieces kept from before (delta) or stands alone (base). */
  readonly keepsInline: boolean;
  /** Where the inline pieces and the new piece go together. */
  readonly to: "item" | "object";
}

/** A base replaces everything; what outgrows the item moves to an object in one go. */
export function placeState(facts: PlacementFacts): Placement {
  const keepsInline = facts.kind === "delta";
  const objects = keepsInline ? facts.current.objects : [];
  const kept = keepsInline ? facts.current.inlinePieceBytes : [];
  // An empty delta says nothing; an empty base says that there is no state.
  const pieceBytes = keepsInline && facts.bytes === 0 ? kept : [...kept, facts.bytes];
  if (totalBytes(pieceBytes) <= facts.payloadBytesMax) {
    return { next: { objects, inlinePieceBytes: pieceBytes }, keepsInline, to: "item" };
  }
  const object = { key: facts.objectKey, pieceBytes };
  return {
    next: { objects: [...objects, object], inlinePieceBytes: [] },
    keepsInline,
    to: "object",
  };
}

export function totalBytes(pieceBytes: readonly number[]): number {
  return pieceBytes.reduce((sum, bytes) => sum + bytes, 0);
}

/** All bounds of one checkpoint (I6); the committer refuses a commit beyond them. */
/** About 65 bytes of attributes each. */
export const OUTBOX_ENTRIES_MAX = 5_000;
export const STATE_OBJECTS_MAX = 64;
export const STATE_PIECES_MAX = 4_096;
/** With the payload, the keys and the names, within the 400 KB of a DynamoDB item. */
export const ATTRIBUTES_BYTES_MAX = 384 * 1024;
/** State is held in memory, and its parts are addressed by 32 bits. */
export const STATE_BYTES_MAX = 2 * 1024 * 1024 * 1024;

export interface BaseFacts {
  readonly stateBytes: number;
  readonly deltaBytes: number;
  readonly pieces: number;
  readonly objects: number;
}

/**
 * Whether the next commit should write a base: when deltas outweigh the base (so each byte is
 * rewritten about once), or when loading would take too many pieces.
 */
export function baseIsDue(facts: BaseFacts): boolean {
  const baseBytes = facts.stateBytes - facts.deltaBytes;
  return (
    facts.deltaBytes > Math.max(baseBytes, 64 * 1024) ||
    facts.pieces >= STATE_PIECES_MAX / 4 ||
    facts.objects >= STATE_OBJECTS_MAX / 2
  );
}

/** The number that opens the name of a state object (generation) or outbox object (sequence). */
export function numberInKey(key: string): number {
  const match = /\/(\d+)-[^/]*$/.exec(key);
  return match === null ? Number.NaN : Number(match[1]);
}

/**
 * Keys that no checkpoint names or ever will: their commit lost, because its number is decided and
 * `used` lacks it. Keys of later numbers may belong to a commit under way.
 */
export function leftoverKeys(
  keys: readonly string[],
  decidedNumber: number,
  used: ReadonlySet<string>,
): string[] {
  return keys.filter((key) => numberInKey(key) <= decidedNumber && !used.has(key));
}

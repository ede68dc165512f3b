/** What an environment sets up once, for all its invocations. */

/**
 * A function that gives what `create` made: begun at once, for before its first event Lambda gives
 * an environment a full CPU. A failure is that event's to meet, and the next one tries again.
 *
 * @example
 * const ready = onceReady(() => Processor.create(options));
 * return async (event, context) => (await ready()).handle(event, context);
 */
export function onceReady<T>(create: () => Promise<T>): () => Promise<T> {
  let setup: Promise<T> | null = null;
  const ready = () => {
    setup ??= create().catch((error: unknown) => {
      setup = null;
      throw error;
    });
    return setup;
  };
  ready().catch(() => undefined);
  return ready;
}

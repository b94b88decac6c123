/** A gRPC stream as an async iterable: items in order, its error or its end as a rejection. */

export interface ItemStream<T> {
  on(event: 'data', listener: (item: T) => void): unknown;
  on(event: 'error', listener: (error: Error) => void): unknown;
  on(event: 'end', listener: () => void): unknown;
}

/** Listens at once; ends without a word when the signal aborts. */
export function streamItems<T>(stream: ItemStream<T>, signal: AbortSignal): AsyncGenerator<T> {
  let items: T[] = [];
  let failure: Error | undefined;
  let wake: () => void = () => undefined;
  const rouse = (): void => {
    wake();
  };
  stream.on('data', (item) => {
    items.push(item);
    wake();
  });
  const fail = (error: Error): void => {
    failure ??= error;
    wake();
  };
  stream.on('error', fail);
  stream.on('end', () => {
    fail(new Error('the server ended the stream'));
  });
  signal.addEventListener('abort', rouse);
  return (async function* () {
    try {
      while (!signal.aborted) {
        const batch = items;
        items = [];
        for (const item of batch) yield item;
        if (items.length > 0) continue;
        if (failure !== undefined) throw failure;
        await new Promise<void>((resolve) => {
          wake = resolve;
          if (signal.aborted || failure !== undefined || items.length > 0) resolve();
        });
      }
    } finally {
      signal.removeEventListener('abort', rouse);
    }
  })();
}

/**
 * A Prometheus histogram of counts that were taken elsewhere. prom-client's own can only observe
 * single values; the data plane hands over finished buckets by powers of two.
 */
import { Histogram, type Registry } from 'prom-client';

interface BucketValue {
  readonly metricName: string;
  readonly labels: Record<string, string | number>;
  readonly value: number;
}

export class BucketHistogram extends Histogram {
  readonly #metric: { readonly name: string; readonly help: string };
  #values: BucketValue[] = [];

  constructor(name: string, help: string, registry: Registry) {
    super({ name, help, registers: [registry] });
    this.#metric = { name, help };
  }

  clear(): void {
    this.#values = [];
  }

  /**
   * Adds one series. Bucket i of `counts` holds sizes in (2^(i-1), 2^i], the first one size 1;
   * `sum` is the total of the sizes.
   */
  add(labels: Readonly<Record<string, string>>, counts: readonly number[], sum: number): void {
    const { name } = this.#metric;
    let total = 0;
    counts.forEach((count, index) => {
      total += count;
      this.#values.push({
        metricName: `${name}_bucket`,
        labels: { ...labels, le: 2 ** index },
        value: total,
      });
    });
    this.#values.push(
      { metricName: `${name}_bucket`, labels: { ...labels, le: '+Inf' }, value: total },
      { metricName: `${name}_sum`, labels, value: sum },
      { metricName: `${name}_count`, labels, value: total },
    );
  }

  override get(): ReturnType<Histogram['get']> {
    return this.getForPromString();
  }

  /** What the registry asks of a metric for its text form; prefers it over `get`. */
  getForPromString(): ReturnType<Histogram['get']> {
    const metric = { ...this.#metric, type: 'histogram', aggregator: 'sum', values: this.#values };
    // The declared type has a numeric enum that does not exist at run time, where it is this text.
    return Promise.resolve(metric as unknown as Awaited<ReturnType<Histogram['get']>>);
  }
}

import { type ExitPayload, HostError, type PlainRecord } from '@vmplanes/engine';
import { didYouMean } from '../config/explain-issues.ts';
import { swtpm } from './swtpm.ts';

/** Something outside the machine that answers requests of its guest. What it answers is input of the machine: recorded, and not asked again by a replay. */
export interface HostService {
  /**
   * Answers one request. Whatever the guest asks for, this does not throw: an answer without what was asked for says why.
   * @param request - plain data of whoever asks.
   */
  ask(request: PlainRecord): Promise<PlainRecord>;
  /** What a snapshot keeps of it. @throws {HostError} BadSnapshot when its state cannot be had. */
  save(): PlainRecord | null;
  /** Goes on from what a snapshot kept. */
  restore(state: PlainRecord | null): void;
  /** Ends it. */
  close(): void;
}

/** How a service is found and made. */
export interface HostServiceKind {
  /** @throws {HostError} NoService with the remedy when this host does not have it. */
  check(): void;
  make(): HostService;
}

/** The services that come with the program, by the name that personalities use. */
export const hostServices: Readonly<Record<string, HostServiceKind>> = { tpm: swtpm };

/** Payload of the exit by which a personality asks a service; the answer is the reply of that exit. */
export interface ServicePayload extends ExitPayload {
  readonly kind: 'service';
  readonly service: string;
  readonly request: PlainRecord;
}
export const isServiceExit = (payload: ExitPayload): payload is ServicePayload => payload.kind === 'service';

/** The services of one virtual machine; each is started when it is asked for the first time. */
export class HostServices {
  readonly #kinds: ReadonlyMap<string, HostServiceKind>;
  readonly #running = new Map<string, HostService>();

  /**
   * @param names - services that the guest may ask.
   * @param kinds - where they are found.
   * @throws {HostError} NoService when one is unknown, or this host does not have it.
   */
  constructor(names: readonly string[], kinds: Readonly<Record<string, HostServiceKind>> = hostServices) {
    this.#kinds = new Map(
      names.map((name) => {
        const kind = Object.hasOwn(kinds, name) ? kinds[name] : undefined;
        if (!kind) {
          const near = didYouMean(name, Object.keys(kinds));
          throw new HostError('NoService', `this program has no host service '${name}' (${near ? `did you mean '${near}'?` : `there are: ${Object.keys(kinds).join(', ')}`})`);
        }
        kind.check();
        return [name, kind];
      }),
    );
  }

  #service(name: string): HostService | null {
    const running = this.#running.get(name);
    if (running) return running;
    const made = this.#kinds.get(name)?.make() ?? null;
    if (made) this.#running.set(name, made);
    return made;
  }

  /** Answers a request; null when the guest was configured without this service. */
  async ask({ service, request }: ServicePayload): Promise<PlainRecord | null> {
    return (await this.#service(service)?.ask(request)) ?? null;
  }

  /** What a snapshot keeps of services that were asked; null when none was. */
  save(): PlainRecord | null {
    return this.#running.size === 0 ? null : Object.fromEntries([...this.#running].map(([name, service]) => [name, service.save()]));
  }
  /** @throws {HostError} BadSnapshot when the snapshot needs a service that this guest has not. */
  restore(state: PlainRecord | null): void {
    this.close();
    for (const [name, saved] of Object.entries(state ?? {})) {
      const service = this.#service(name);
      if (!service) throw new HostError('BadSnapshot', `the snapshot needs the host service '${name}'`);
      service.restore(saved as PlainRecord | null);
    }
  }

  close(): void {
    for (const service of this.#running.values()) service.close();
    this.#running.clear();
  }
}

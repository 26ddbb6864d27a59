import { Activity, type PlaneContext } from '@vmplanes/engine';
import { ApicReg, readRegister, type RegisterName, writePage } from '@vmplanes/x86';
import { describe, expect, it } from 'vitest';
import { combinedFault } from './double-fault.ts';
import { DirectCalls } from './vsm-fixture.ts';

const OK = 0, VALUE = 0x50;
/** Exception: 0 pending, 3:1 type 0, 8 code wanted, 31:16 vector, 63:32 code, 127:64 parameter. @spec openvmm vm/hv1/hvdef/src/lib.rs */
const exception = (vector: number, { code = null as number | null, parameter = 0n } = {}): bigint => 1n | (code === null ? 0n : 0x100n | (BigInt(code) << 32n)) | (BigInt(vector) << 16n) | (parameter << 64n);
/** External interrupt: type 5, vector in 15:8. */
const interrupt = (vector: number): bigint => 1n | (5n << 1n) | (BigInt(vector) << 8n);

class Scene extends DirectCalls {
  readonly lower: PlaneContext;
  /** What VTL1 was told: message type and what it is about. */
  readonly told: (readonly [to: number, type: number, about: number])[] = [];
  /** VTL1 takes messages. */
  takes = true;

  constructor(vps = 2) {
    super(vps);
    this.enable(1, [0, 1]);
    this.lower = this.context(1, 0);
    Object.assign(this.hv.chapters.intercepts, {
      notify: (_c: PlaneContext, to: number, bytes: Uint8Array): boolean => {
        const view = new DataView(bytes.buffer);
        this.told.push([to, view.getUint32(0, true), view.getUint32(16 + 0x28, true)]);
        return this.takes;
      },
    });
  }
  get events() {
    return this.hv.chapters.events;
  }
  cell(name: RegisterName): bigint {
    return readRegister(this.machine.arena, this.lower.base, name);
  }
  with(cells: Partial<Record<RegisterName, bigint>>): this {
    for (const [name, value] of Object.entries(cells)) this.put(this.lower, name as RegisterName, value!);
    return this;
  }
  enter(): void {
    this.events.entering(this.lower);
  }
}

describe('PendingEvent0', () => {
  it.each([
    ['exception 0', exception(0), OK], ['exception 1', exception(1), OK], ['the NMI', exception(2), VALUE], ['exception 3', exception(3), OK], ['exception 0x15', exception(0x15), OK], ['exception 0x16', exception(0x16), VALUE], ['a vector of 16 bits', exception(0x10e), VALUE],
    ['interrupt 16', interrupt(16), OK], ['interrupt 15', interrupt(15), VALUE], ['interrupt 255', interrupt(255), OK], ['interrupt 0', interrupt(0), VALUE],
    ...[1, 2, 3, 4, 6, 7].map((type) => [`type ${type}`, 1n | (BigInt(type) << 1n) | (0x40n << 8n) | (6n << 16n), VALUE] as const),
    ['what is not pending', (7n << 1n) | (0x40n << 16n), OK], ['nothing', 0n, OK],
  ] as const)('%s', (_what, value, status) => {
    const s = new Scene();
    s.events.write(s.lower, 0, exception(6));
    expect([s.events.write(s.lower, 0, value), s.events.read(s.lower, 0), s.events.read(s.context(0, 0), 0), s.events.read(s.context(1, 1), 0)]).toEqual([status, status === OK ? value : exception(6), 0n, 0n]);
  });
  it.each([
    ['with a code', exception(14, { code: 0x8000_0005, parameter: 0x1234_5678_9abc_def0n }), { 'exception.vector': 14n, 'exception.hasErrorCode': 1n, 'exception.errorCode': 0x8000_0005n, 'exception.payload': 0x1234_5678_9abc_def0n }],
    ['with code 0', exception(13, { code: 0 }), { 'exception.vector': 13n, 'exception.hasErrorCode': 1n, 'exception.errorCode': 0n }],
    ['without a code', exception(6) | (0x77n << 32n), { 'exception.vector': 6n, 'exception.hasErrorCode': 0n, 'exception.errorCode': 0n }],
  ] as const)('an exception %s is given at the entry, once', (_what, value, cells) => {
    const s = new Scene();
    s.events.write(s.lower, 0, value);
    s.events.write(s.lower, 1, 99n);
    s.enter();
    expect(s.cell('exception.state')).toBe(1n);
    for (const [name, expected] of Object.entries(cells)) expect(s.cell(name as RegisterName), name).toBe(expected);
    expect([s.events.read(s.lower, 0), s.events.read(s.lower, 1)]).toEqual([0n, 0n]);
    s.with({ 'exception.state': 0n }).enter();
    expect(s.cell('exception.state')).toBe(0n);
  });
  it('with one that is due makes a double fault: code 0, no address', () => {
    const s = new Scene().with({ 'exception.state': 1n, 'exception.vector': 14n });
    s.events.write(s.lower, 0, exception(13, { code: 5, parameter: 77n }));
    s.enter();
    expect([s.cell('exception.vector'), s.cell('exception.hasErrorCode'), s.cell('exception.errorCode'), s.cell('exception.payload')]).toEqual([8n, 1n, 0n, 0n]);
    // A vector left over from before, not due, combines with nothing.
    const t = new Scene().with({ 'exception.state': 0n, 'exception.vector': 14n });
    t.events.write(t.lower, 0, exception(13, { code: 5 }));
    t.enter();
    expect([t.cell('exception.vector'), t.cell('exception.errorCode')]).toEqual([13n, 5n]);
  });
  it.each([
    ['interrupts off', { rflags: 2n }, false], ['interrupts on', { rflags: 0x202n }, true], ['other flags', { rflags: 0x4_0dd7n & ~0x200n }, false], ['a shadow', { rflags: 0x202n, interruptShadow: 1n }, false],
    ['another interrupt', { rflags: 0x202n, 'interrupt.injected': 1n }, false], ['an exception', { rflags: 0x202n, 'exception.state': 1n }, false],
  ] as const)('an interrupt waits for its VTL: %s', (_what, cells, isTaken) => {
    const s = new Scene().with({ 'interrupt.soft': 1n, 'interrupt.vector': 0x33n }).with(cells);
    s.events.write(s.lower, 0, interrupt(0xef));
    s.enter();
    expect([s.cell('interrupt.vector'), s.cell('interrupt.soft'), s.events.read(s.lower, 0)]).toEqual(isTaken ? [0xefn, 0n, 0n] : [0x33n, 1n, interrupt(0xef)]);
    if (isTaken) expect(s.cell('interrupt.injected')).toBe(1n);
  });
  it.each([[Activity.Halted, Activity.Running], [Activity.WaitForSipi, Activity.WaitForSipi], [Activity.Held, Activity.Held]] as const)('ends activity %s: %s', (before, after) => {
    const s = new Scene();
    const wait = before === Activity.Held ? { kind: 'key', key: 'other' } : null;
    s.lower.activity = before;
    s.lower.wait = wait as never;
    s.events.write(s.lower, 0, exception(6) & ~1n);
    expect(s.lower.activity).toBe(before);
    s.events.write(s.lower, 0, exception(6));
    expect([s.lower.activity, s.lower.wait]).toEqual([after, wait]);
  });
  it('ends idling', () => {
    const s = new Scene();
    const answer = s.hv.chapters.clocks.idle(s.lower);
    s.lower.activity = Activity.Held;
    s.lower.wait = answer.kind === 'wait' ? answer.condition : null;
    s.events.write(s.lower, 0, interrupt(0x40));
    expect([s.lower.activity, s.lower.wait]).toEqual([Activity.Running, null]);
  });
});

// The whole of SDM 3A Table 6-5: benign, contributory, page fault.
describe('two exceptions', () => {
  const kinds = (vector: number): string => (vector === 8 ? 'double' : vector === 14 ? 'page' : [0, 10, 11, 12, 13].includes(vector) ? 'contributory' : 'benign');
  it.each(Array.from({ length: 22 }, (_, n) => n))('first %i', (first) => {
    for (let second = 0; second < 22; second++) {
      const [a, b] = [kinds(first), kinds(second)];
      const isDouble = a === 'double' || (a === 'contributory' && b === 'contributory') || (a === 'page' && (b === 'contributory' || b === 'page'));
      expect(combinedFault(first, second), `then ${second}`).toBe(isDouble ? 8 : second);
    }
  });
});

describe('notifications', () => {
  const NMI = 1n, INTERRUPT = 2n, DELIVERABLE = 0x8001_0008, SINTS = 0x8000_0062;
  const priority = (n: number): bigint => BigInt(n) << 2n;
  it('are kept as they were asked for', () => {
    const s = new Scene();
    expect([s.events.setNotifications(s.lower, 1, 0x8421_0000_0000_003fn), s.events.notifications(s.lower), s.events.notifications(s.context(0, 0))]).toEqual([OK, 0x8421_0000_0000_003fn, 0n]);
    for (const bit of [6, 7, 31, 32, 47]) expect(s.events.setNotifications(s.lower, 1, 1n << BigInt(bit)), String(bit)).toBe(VALUE);
    expect(s.events.notifications(s.lower)).toBe(0x8421_0000_0000_003fn);
    expect([s.events.setNotifications(s.lower, 1, 0n), s.events.notifications(s.lower)]).toEqual([OK, 0n]);
  });
  it.each([
    ['an NMI', NMI, {}, [[1, DELIVERABLE, 2]], 0n],
    ['an NMI while one is served', NMI, { 'nmi.blocked': 1n }, [], NMI],
    ['an interrupt', INTERRUPT, { rflags: 0x202n }, [[1, DELIVERABLE, 0]], 0n],
    ['an interrupt while they are off', INTERRUPT, { rflags: 2n }, [], INTERRUPT],
    ['an interrupt in a shadow', INTERRUPT, { rflags: 0x202n, interruptShadow: 2n }, [], INTERRUPT],
    ['both', NMI | INTERRUPT, { rflags: 0x202n }, [[1, DELIVERABLE, 2], [1, DELIVERABLE, 0]], 0n],
    ['both, of which one comes true', NMI | INTERRUPT | priority(3), { rflags: 2n }, [[1, DELIVERABLE, 2]], INTERRUPT | priority(3)],
    ['nothing but a priority', priority(3), { rflags: 0x202n }, [], priority(3)],
  ] as const)('tell of %s', (_what, asked, cells, told, left) => {
    const s = new Scene().with(cells);
    s.events.setNotifications(s.lower, 1, asked);
    s.events.evaluate(s.lower);
    expect([s.told, s.events.notifications(s.lower)]).toEqual([told, left]);
    s.events.evaluate(s.lower);
    expect(s.told.length).toBe(told.length);
  });
  it.each([[0, 0xf0, true], [5, 0x40, true], [5, 0x50, false], [5, 0x4f, true], [5, 0x60, false], [15, 0xe0, true], [15, 0xf0, false], [1, 0, true]])('of interrupts of class %i look at task priority 0x%s', (asked, tpr, isTold) => {
    const s = new Scene().with({ rflags: 0x202n });
    writePage(s.arch.apicOf(s.lower), ApicReg.tpr, 4, tpr);
    s.events.setNotifications(s.lower, 1, INTERRUPT | priority(asked));
    s.events.evaluate(s.lower);
    expect([s.told.length, s.events.notifications(s.lower)]).toEqual(isTold ? [1, 0n] : [0, INTERRUPT | priority(asked)]);
  });
  it('are asked again until they could be told', () => {
    const s = new Scene().with({ rflags: 0x202n });
    s.takes = false;
    s.events.setNotifications(s.lower, 1, NMI | INTERRUPT | priority(2));
    s.hv.chapters.intercepts.sintsReady(s.lower, 0x8001);
    s.events.evaluate(s.lower);
    expect([s.told, s.events.notifications(s.lower)]).toEqual([[[1, DELIVERABLE, 2], [1, DELIVERABLE, 0], [1, SINTS, 0x8001]], NMI | INTERRUPT | priority(2)]);
    s.takes = true;
    s.hv.chapters.intercepts.sintsReady(s.lower, 4);
    s.events.evaluate(s.lower);
    expect(s.told.slice(3)).toEqual([[1, DELIVERABLE, 2], [1, DELIVERABLE, 0], [1, SINTS, 0x8005]]);
    s.events.evaluate(s.lower);
    expect(s.told.length).toBe(6);
  });
  it('asked for anew forget SINTs that were ready', () => {
    const s = new Scene();
    s.hv.chapters.intercepts.sintsReady(s.lower, 2);
    s.events.setNotifications(s.lower, 1, 0n);
    s.events.evaluate(s.lower);
    expect(s.told).toEqual([]);
  });
});

describe('state', () => {
  it('comes back whole, of the right VTL of the right VP', () => {
    const s = new Scene();
    s.events.write(s.lower, 0, interrupt(0x44));
    s.events.write(s.lower, 1, (1n << 127n) | 3n);
    s.events.setNotifications(s.context(0, 0), 1, 0x2n);
    s.hv.chapters.intercepts.sintsReady(s.context(0, 0), 0x80);
    const t = new Scene();
    t.events.write(t.context(0, 0), 0, exception(6));
    t.events.restore(structuredClone(s.events.save()));
    expect(t.events.save()).toEqual(s.events.save());
    expect([t.events.read(t.lower, 0), t.events.read(t.lower, 1), t.events.read(t.context(0, 0), 0)]).toEqual([interrupt(0x44), (1n << 127n) | 3n, 0n]);
    t.with({ rflags: 0x202n }).enter();
    expect(t.cell('interrupt.vector')).toBe(0x44n);
    t.events.evaluate(t.context(0, 0));
    expect(t.told).toEqual([[1, 0x8000_0062, 0x80]]);
    t.events.reset();
    expect(t.events.save()).toEqual(new Scene().events.save());
    t.events.evaluate(t.context(0, 0));
    expect(t.told.length).toBe(1);
  });
});

import { Ghcb, GhcbMsr } from '@vmplanes/abi-sev-snp';
import { type PlainRecord, Schedule, type Vp } from '@vmplanes/engine';
import type { Step } from '@vmplanes/x86';
import { describe, expect, it } from 'vitest';
import { type Bounds, explore, type Party, type Scenario, summary, type World } from '../explore/explorer.ts';
import { BUFFER, DATA, ghcbOf, GhcbRig, type GhcbRigConfig, type Request } from './ghcb-rig.ts';

// Two processors: the first asks through its GHCB, the second writes the same memory, at the points where the host has
// read something and before it uses it.

const PAGE = ghcbOf();
const OTHER = ghcbOf(1);
const at = Ghcb.at;
const points = ['pages-checked', 'read-piece', 'fetched'] as const;
const bounds: Bounds = { depth: 6, intrusions: 2, nesting: 1, vpPoints: points, resumeOneIn: 16 };
const exits: Step = { op: 'call', via: 'vmgexit' };
const halt: Step = { op: 'hlt' };
const store = (gpa: number, value: number | bigint, size: 1 | 2 | 4 | 8 = 8): Step => ({ op: 'write', gpa, value, size });
/** Words that notes keep of what devices were asked for. */
const MOST = 8;

interface Race {
  readonly name: string;
  readonly ask: Request;
  readonly prepare?: (rig: GhcbRig) => void;
  readonly others: readonly Step[];
  readonly parties?: (rig: GhcbRig) => readonly Party[];
  readonly reply?: (vp: Vp) => PlainRecord;
  /** @param seen - values of exits, in order. @returns sentences for what must not be. */
  readonly wrong: (rig: GhcbRig, seen: readonly number[]) => readonly string[];
  readonly config?: GhcbRigConfig;
}

const scenario = ({ name, ask, prepare, others, parties, reply, wrong, config }: Race): Scenario => ({
  name,
  build: (): World => {
    const rig = new GhcbRig({ vps: 2, planes: 1, ...config, script: (vp) => ({ id: `vp${vp}`, steps: vp === 0 ? [exits, halt] : [...others, halt] }) });
    const { machine } = rig;
    // How many exits there were, their values, and the answers of chapters that keep no state of their own.
    const notes = new Int32Array(1 + MOST);
    rig.fill(ask);
    rig.setMsr(BigInt(PAGE), rig.plane(machine.vp(0).context));
    rig.setMsr(BigInt(OTHER), rig.plane(machine.vp(1).context));
    prepare?.(rig);
    rig.log.lines.push = (...lines: string[]): number => {
      for (const line of lines) if (notes[0]! < MOST) notes[1 + notes[0]!++] = Number.parseInt(/\d+/.exec(line)?.[0] ?? '0', 10);
      return 0;
    };
    return {
      machine,
      arch: rig.arch,
      notes,
      parties: parties?.(rig) ?? [],
      onExit: (vp) => {
        const exit = vp.exit as { readonly kind: string; readonly value?: number; readonly lo?: number } | null;
        if (exit?.kind === 'io' || exit?.kind === 'mmio') {
          if (notes[0]! < MOST) notes[1 + notes[0]!++] = exit.value ?? exit.lo ?? 0;
        } else vp.setSchedule(vp.context, Schedule.Stopped);
        if (vp.context.completion !== null) machine.reply(vp.context, reply?.(vp) ?? {});
      },
      settled: () => wrong(rig, [...notes.subarray(1, 1 + notes[0]!)]),
    };
  },
});

const word = (rig: GhcbRig, offset: number): bigint => (rig.machine.memory.isPrivate(PAGE / 4096) ? -1n : rig.peek(PAGE + offset));
const results = (rig: GhcbRig): string => `${word(rig, at.swExitInfo1)}/${word(rig, at.swExitInfo2)}`;
const oneOf = (what: string, got: string, allowed: readonly string[]): readonly string[] => (allowed.includes(got) ? [] : [`${what}: ${got} is none of ${allowed.join(', ')}`]);
const strings = { swExitCode: 0x7b, swExitInfo1: 0x01f0_0014, swExitInfo2: 2, swScratch: BUFFER } as const;
const large = (page: number, operation: number): bigint => (BigInt(page) << 12n) | (BigInt(operation) << 52n);
const message = (rig: GhcbRig, type: number): void => rig.poke(DATA + 0x34, BigInt(type), 1);

const races: readonly Race[] = [
  {
    name: 'the exit code changes: one event or the other is served, never a mixture',
    ask: { swExitCode: 0x8000_fffd, swExitInfo1: 0, swExitInfo2: 0 },
    others: [store(PAGE + at.swExitCode, 0x9999)],
    wrong: (rig) => oneOf('result', results(rig), ['0/23', '2/6']),
  },
  {
    name: 'the usage changes: it counts as it was read',
    ask: { swExitCode: 0x8000_fffd, swExitInfo1: 0, swExitInfo2: 0 },
    others: [store(PAGE + at.ghcbUsage, 1, 4)],
    wrong: (rig) => oneOf('result', results(rig), ['0/23', '2/2']),
  },
  {
    name: 'the bitmap is filled in: fields that were missing stay missing',
    ask: { swExitCode: 0x7c, swExitInfo1: 0, swExitInfo2: 0 },
    prepare: (rig) => rig.poke(PAGE + at.rcx, 0x277n),
    others: [store(PAGE + at.validBitmap + 8, (1n << 33n) | (7n << 50n))],
    // Valid from the start of the snapshot, or not at all. The write may also come after the result.
    wrong: (rig) => oneOf('result', results(rig), ['2/4', '0/0']),
  },
  {
    name: 'an operand changes after it was read: the MSR that is read is one of the two',
    ask: { swExitCode: 0x7c, swExitInfo1: 0, swExitInfo2: 0, rcx: 0x277 },
    others: [store(PAGE + at.rcx, 0x1234_5678)],
    wrong: (rig) => oneOf('result', `${results(rig)} ${word(rig, at.rax)}`, [`0/0 ${0x0007_0406n}`, `1/${0x8000_0b0dn} 0`]),
  },
  {
    name: 'bytes of a string change: both elements are of one copy',
    ask: strings,
    prepare: (rig) => rig.poke(BUFFER, 0x1111n),
    others: [store(BUFFER, 0x2222, 2)],
    wrong: (_rig, seen) => oneOf('elements', seen.join(), ['17,17', '34,34']),
  },
  {
    name: 'the scratch address changes after it was checked: bytes come from the buffer, or the request is refused',
    ask: strings,
    prepare: (rig) => {
      rig.poke(BUFFER, 0x1111n);
      rig.poke(DATA, 0x6666n);
    },
    others: [store(PAGE + at.swScratch, DATA)],
    wrong: (rig, seen) => (seen.length === 0 ? oneOf('result', results(rig), ['2/3']) : oneOf('elements', seen.join(), ['17,17'])),
  },
  {
    name: 'the length of an MMIO write grows after it was checked',
    ask: { swExitCode: 0x8000_0002, swExitInfo1: 0xfed0_0000, swExitInfo2: 4, swScratch: BUFFER },
    prepare: (rig) => rig.poke(BUFFER, 0x11n),
    others: [store(PAGE + at.swExitInfo2, 9)],
    wrong: (rig, seen) => (seen.length === 0 ? oneOf('result', results(rig), ['2/5']) : oneOf('bytes', seen.join(), ['17'])),
  },
  {
    name: 'the last entry of a page state change moves after it was checked: no entry behind it is used',
    ask: { swExitCode: 0x8000_0010, swExitInfo1: 0, swExitInfo2: 0, swScratch: BUFFER },
    prepare: (rig) => {
      rig.poke(BUFFER, 0n);
      rig.poke(BUFFER + 8, large(5, 2));
      rig.poke(BUFFER + 16, large(9, 2));
    },
    others: [store(BUFFER + 2, 400, 2)],
    wrong: (rig, seen) => oneOf('pages', `${seen.join()} ${results(rig)}`, ['5 0/0', ` 0/${0x1_0000_0001n}`]),
  },
  {
    name: 'an entry of a page state change changes after it was checked: the page that was checked is the one that changes',
    ask: { swExitCode: 0x8000_0010, swExitInfo1: 0, swExitInfo2: 0, swScratch: BUFFER },
    prepare: (rig) => {
      rig.poke(BUFFER, 0n);
      rig.poke(BUFFER + 8, large(5, 2));
    },
    others: [store(BUFFER + 8, large(0x300, 2))],
    wrong: (rig, seen) => oneOf('pages', `${seen.join()} ${results(rig)}`, ['5 0/0', ` 0/${0x100_0000_0000n}`]),
  },
  {
    name: 'the cursor of a page state change is moved back while it is worked off: it comes to an end',
    ask: { swExitCode: 0x8000_0010, swExitInfo1: 0, swExitInfo2: 0, swScratch: BUFFER },
    prepare: (rig) => {
      rig.poke(BUFFER, 0x1_0000n);
      rig.poke(BUFFER + 8, large(5, 2));
      rig.poke(BUFFER + 16, large(9, 2));
    },
    others: [store(BUFFER, 0, 2)],
    wrong: (rig, seen) => oneOf('pages', `${seen.join()} ${results(rig)}`, ['5,9 0/0']),
  },
  {
    name: 'a message becomes a report after it was read: none is sent without room for its certificates',
    ask: { swExitCode: 0x8000_0012, swExitInfo1: DATA, swExitInfo2: DATA + 4096, rax: DATA + 8192, rbx: 0 },
    prepare: (rig) => {
      message(rig, 3);
      rig.log.certificates = new Uint8Array(10);
    },
    others: [store(DATA + 0x34, 5, 1)],
    wrong: (rig, seen) => oneOf('messages', `${seen.join()} ${results(rig)}`, ['3 0/0', ` 0/${1n << 32n}`]),
  },
  {
    name: 'the page is taken away in the middle: the guest sees no result, the host no error',
    ask: strings,
    prepare: (rig) => {
      rig.poke(BUFFER, 0x1111n);
      rig.setMsr(BigInt(PAGE) | (1n << 52n) | BigInt(GhcbMsr.PageStateChangeRequest.code), rig.plane(rig.machine.vp(1).context));
    },
    others: [exits],
    wrong: (rig, seen) => oneOf('elements', seen.filter((v) => v !== PAGE / 4096).join(), ['17,17', '']).concat(rig.machine.memory.isPrivate(PAGE / 4096) ? [] : ['the page is still shared']),
  },
  {
    name: 'both processors change the state of one page: the last one counts, and both succeed',
    ask: { swExitCode: 0x8000_0010, swExitInfo1: 0, swExitInfo2: 0, swScratch: BUFFER },
    prepare: (rig) => {
      rig.poke(BUFFER, 0n);
      rig.poke(BUFFER + 8, large(5, 2));
      rig.setMsr((1n << 52n) | (5n << 12n) | BigInt(GhcbMsr.PageStateChangeRequest.code), rig.plane(rig.machine.vp(1).context));
    },
    others: [exits],
    wrong: (rig, seen) =>
      oneOf('results', `${results(rig)} ${rig.getMsr(rig.plane(rig.machine.vp(1).context)).toString(16)}`, ['0/0 15']).concat(
        seen.join() !== '5,5' ? [`pages: ${seen.join()}`] : [],
        rig.machine.memory.isPrivate(5) === rig.snp.chapters.rmp.entry(5).assigned ? [] : ['the reverse map and the memory say different things'],
      ),
  },
  {
    name: 'the VMM takes the memory of the page away between two elements',
    ask: { ...strings, swExitInfo1: 0x01f0_0015 },
    others: [],
    reply: () => ({ value: 7 }),
    parties: (rig) => [{ name: 'the page becomes private', times: 1, points, act: () => void rig.snp.chapters.rmp.assign(PAGE / 4096, 1, true) }],
    wrong: () => [],
  },
];

describe('a second processor while the first one asks', () => {
  it.each(races.map((race) => [race.name, race] as const))('%s', (_name, race) => {
    const report = explore(scenario(race), bounds);
    console.log(summary(report));
    expect(report.failure).toBeNull();
    expect(report.states).toBeGreaterThan(3);
  });

  it('a request that is read again after it was checked is found', () => {
    const race = races.find((r) => r.name.startsWith('a message becomes a report'))!;
    expect(explore(scenario({ ...race, config: { readsRequestAgain: true } }), bounds).failure?.why).toContain('messages: 5 0/0 is none of');
  });
  it('data of a string that are read for each element are found', () => {
    const race = races.find((r) => r.name.startsWith('bytes of a string'))!;
    // The defect: the bytes of the completion are taken from the buffer once more.
    const again = (rig: GhcbRig): void => {
      const { ghcb } = rig;
      const complete = ghcb.complete.bind(ghcb);
      ghcb.complete = (plane, completion) => complete(plane, { ...completion, data: { ...completion.data, bytes: rig.read(BUFFER, 2) } });
    };
    expect(explore(scenario({ ...race, prepare: (rig) => (race.prepare!(rig), again(rig)) }), bounds).failure?.why).toContain('elements: 17,34 is none of');
  });
});

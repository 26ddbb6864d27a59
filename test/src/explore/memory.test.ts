import { AccessResult, type Answer, CallBuffer, type Claim, HOST, type Machine, type Personality, type PlainState, type PlaneContext, Right, Schedule } from '@vmplanes/engine';
import { CallKind, type Step, X86 } from '@vmplanes/x86';
import { describe, expect, it } from 'vitest';
import { type Bounds, explore, type Scenario, summary } from './explorer.ts';
import { buildWorld, program } from './scenarios.ts';

/** An eight-byte word half on page 2 and half on page 3, and one inside a page. */
const STRADDLING = 0x2ffc;
const INPUT = 0x1800;
const LIMIT = 16;
const SECRET = 0x5ec4e7;
const WRITTEN = 0x1117e4;
const points = ['pages-checked', 'read-piece', 'fetched'] as const;

/** A call reads guest memory on behalf of its plane: a word at RBX into RAX, or a length at RBX that it uses. */
class MemoryCalls implements Personality {
  readonly name = 'memory-calls';
  readonly stateName = 'memory-calls';
  readonly stateVersion = 1;
  readonly claims: readonly Claim[] = [{ exit: 'call', from: CallKind.Vmcall, to: CallKind.Vmcall }];
  /** Largest length that was acted on. */
  used = 0;
  readonly #input = new CallBuffer(64);
  constructor(
    readonly machine: Machine,
    readonly way: 'word' | 'checked once' | 'fetched once' | 'fetched twice',
  ) {}

  handle(context: PlaneContext): Answer {
    const { memory, arena } = this.machine;
    const { access } = memory;
    const { call } = memory.subjects[context.plane]!;
    const { replies } = context.vp;
    const gpa = arena.u32[(context.base + X86.rbx) >>> 2]!;
    let result: AccessResult;
    if (this.way === 'word') result = access.readU64(call, gpa);
    else if (this.way === 'checked once') {
      // The defect: permissions are checked, then the word is read without them.
      result = access.check(call, gpa, 8, Right.Read);
      access.preempt?.('pages-checked');
      if (result === AccessResult.Ok) access.readU64(HOST, gpa);
    } else {
      result = this.#input.fetch(access, call, gpa, 8);
      let length = this.#input.view.getUint32(0, true);
      if (result !== AccessResult.Ok || length > LIMIT) return replies.fault(13, 0);
      if (this.way === 'fetched twice') {
        // The defect: what was validated is read from the guest again.
        access.readU32(call, gpa);
        length = access.lo;
      }
      this.used = Math.max(this.used, length);
      return replies.resume();
    }
    if (result !== AccessResult.Ok) return replies.fault(13, 0);
    arena.u32[(context.base + X86.rax) >>> 2] = access.lo;
    arena.u32[((context.base + X86.rax) >>> 2) + 1] = access.hi;
    return replies.resume();
  }
  checkInvariants(): readonly string[] {
    return this.used > LIMIT ? [`I-FETCH: a length of ${this.used} was acted on, at most ${LIMIT} passes validation`] : [];
  }
  save(): PlainState {
    return { used: this.used };
  }
  restore(state: PlainState): void {
    this.used = (state as { readonly used: number }).used;
  }
}

const halt: Step = { op: 'hlt' };
const read: Step = { op: 'read', gpa: STRADDLING };
const write: Step = { op: 'write', gpa: STRADDLING, value: (BigInt(WRITTEN) << 32n) | BigInt(WRITTEN) };
const call = (gpa: number): Step => ({ op: 'call', regs: { rbx: gpa } });
const longer: Step = { op: 'write', gpa: INPUT, size: 4, value: 1000 };
/** VP 0 reads or calls, VP 1 writes the same bytes, and the VMM takes page 3 from plane 0 and puts something secret there. */
const memoryRaces = (name: string, way: MemoryCalls['way'], first: Step, second: Step): Scenario => ({
  name,
  build: () => {
    const base = buildWorld({
      vps: 2,
      planes: 2,
      policy: 'highest-runnable',
      rule: 'deliverable',
      asked: 0,
      script: (vp, plane) => program(vp, plane, [vp === 0 ? first : second, halt], []),
      personality: (machine) => new MemoryCalls(machine, way),
    });
    const { machine } = base;
    const { access, permissions } = machine.memory;
    // Per VP: its access was refused.
    const notes = new Int32Array(2);
    access.writeU32(HOST, INPUT, 8);
    return {
      ...base,
      notes,
      parties: [
        {
          name: 'page 3 is taken from plane 0',
          times: 1,
          points,
          act: () => {
            permissions[0]!.set(3, 1, 0);
            access.writeU32(HOST, 0x3000, SECRET);
          },
        },
      ],
      onExit: (vp) => {
        notes[vp.index] = 1;
        vp.setSchedule(vp.context, Schedule.Stopped);
      },
      settled: () => {
        const why: string[] = [];
        if (machine.arena.u32[((machine.vp(0).plane(0).base + X86.rax) >>> 2) + 1] === SECRET) why.push('I-TLB: a byte was read after the right to it had been taken');
        access.readU32(HOST, STRADDLING);
        if (notes[1] === 1 && access.lo === WRITTEN) why.push('I-ATOM: a refused write left its first half');
        return why;
      },
    };
  },
});

/** VP 0 writes over two pages while VP 1 writes a third; each has a dirty ring. */
const dirtyRings: Scenario = {
  name: 'dirty rings of two VPs',
  build: () => {
    const base = buildWorld({ vps: 2, planes: 2, policy: 'highest-runnable', rule: 'deliverable', asked: 0, script: (vp, plane) => program(vp, plane, [vp === 0 ? write : longer, halt], []) });
    const { memory } = base.machine;
    memory.logDirty(0, true);
    const rings = [0, 1].map((vp) => memory.dirty.addRing(vp, 16, 2));
    return {
      ...base,
      notes: new Int32Array(1),
      parties: [],
      settled: () => {
        const bitmap = new Uint32Array(1);
        memory.dirty.peek(0, bitmap);
        const told = rings.reduce((sum, _, vp) => sum + (memory.dirty.ring(vp)?.save().dirtyIndex ?? 0), 0);
        return bitmap[0] === 0b1110 && told === 3 ? [] : [`I-LIN: pages ${bitmap[0]!.toString(2)} are dirty, the rings tell of ${told}`];
      },
    };
  },
};

const bounds: Bounds = { depth: 6, intrusions: 2, nesting: 2, vpPoints: points, resumeOneIn: 8 };

describe('races in guest memory, depth 6, two acts in between, one inside the other', () => {
  it.each([
    ['a read over two pages against a write and a revocation', 'word', read, write],
    ['a call that reads a word over two pages', 'word', call(STRADDLING), write],
    ['a call that copies its input once', 'fetched once', call(INPUT), longer],
    ['a call that copies its input over two pages', 'fetched once', call(STRADDLING), write],
  ] as const)('%s', (name, way, first, second) => {
    const report = explore(memoryRaces(name, way, first, second), bounds);
    console.log(summary(report));
    expect(report.failure).toBeNull();
    expect(report.intrusions).toBeGreaterThan(0);
  });

  it('dirty rings of two VPs', () => {
    const report = explore(dirtyRings, bounds);
    console.log(summary(report));
    expect(report.failure).toBeNull();
  });

  it.each([
    ['a call that checks permissions once and reads without them', 'I-TLB', 'checked once', call(STRADDLING), write],
    ['a call that reads its input again after validation', 'I-FETCH', 'fetched twice', call(INPUT), longer],
  ] as const)('%s: %s reports it', (name, invariant, way, first, second) => {
    expect(explore(memoryRaces(name, way, first, second), bounds).failure?.why).toContain(invariant);
  });
});

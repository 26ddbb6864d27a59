import { DeliverableRule, IrrRule, type Hooks, type PendingRule, type SchedulerPolicyName } from '@vmplanes/engine';
import { type Step, writePage } from '@vmplanes/x86';
import type { Scenario } from './explorer.ts';
import { buildWorld, handlerRan, nmi, noted, program, servant } from './scenarios.ts';
import * as seeds from './seeds.ts';

/** A rule under a policy, and the planes whose interrupts are served then. */
export interface PlaneSetting {
  readonly policy: SchedulerPolicyName;
  readonly rule: (hooks: Hooks) => PendingRule;
  readonly asked: number;
  readonly home: number;
  readonly served: readonly number[];
}

const irr: PlaneSetting = { policy: 'userspace', rule: (h) => new IrrRule(h), asked: 0b010, home: 0, served: [0, 1] };
const deliverable: PlaneSetting = { ...irr, rule: (h) => new DeliverableRule(h) };
export const settings: readonly (readonly [name: string, setting: PlaneSetting])[] = [
  ['irr, the VMM asks about plane 1', irr],
  ['deliverable, the VMM asks about plane 1', deliverable],
  ['deliverable, lowest runnable', { ...deliverable, policy: 'lowest-runnable', asked: 0, home: 1, served: [0, 1] }],
  ['deliverable, highest runnable', { ...deliverable, policy: 'highest-runnable', asked: 0, home: 0, served: [0, 1, 2] }],
];

/** One VP that works and halts in its home plane; interrupts for each of its planes fall in everywhere. */
export const oneVp = (name: string, setting: PlaneSetting): Scenario => ({
  name: `one VP, three planes, ${name}`,
  build: () => {
    const { home, served } = setting;
    const base = buildWorld({
      vps: 1,
      planes: 3,
      ...setting,
      script: (vp, plane) => program(vp, plane, plane === home ? [{ op: 'work' }, { op: 'hlt' }, { op: 'jump', to: 0 }] : servant(home), [64]),
    });
    const notes = new Int32Array(3);
    const sent = noted(base.machine, notes, [0, 1, 2].map((p) => [0, p, 64] as const));
    return { ...base, notes, parties: sent.parties, settled: () => sent.missing().filter((_, i, all) => served.some((p) => all[i]!.includes(`plane ${p} `))) };
  },
});

const ipi = (to: number, vector: number): Step => ({ op: 'ipi', icr: (BigInt(to) << 32n) | BigInt(0x4000 | vector) });

/** Two VPs with three planes: messages in each plane, calls between planes, halts, a timer of a plane that does not run. */
export const twoVps = (name: string, setting: PlaneSetting): Scenario => ({
  name: `two VPs, three planes, ${name}`,
  build: () => {
    const asked = setting.policy === 'userspace' ? 0b110 : 0;
    const mains: readonly (readonly Step[])[] = [
      [ipi(1, 65), { op: 'call', regs: { rax: 1 } }, { op: 'hlt' }, { op: 'jump', to: 2 }],
      [ipi(0, 66), { op: 'hlt' }, { op: 'jump', to: 1 }],
    ];
    const base = buildWorld({
      vps: 2,
      planes: 3,
      ...setting,
      home: 0,
      asked,
      script: (vp, plane) => {
        const steps = plane === 0 ? mains[vp]! : vp === 0 && plane === 1 ? [ipi(1, 67), { op: 'call', regs: { rax: 0 } } as const, { op: 'jump', to: 1 } as const] : servant(0);
        return program(vp, plane, steps, [64, 65, 66, 67, 69]);
      },
    });
    const { machine, arch } = base;
    const suspended = arch.apicOf(machine.vp(1).plane(2));
    writePage(suspended, 0x320, 4, 69);
    writePage(suspended, 0x380, 4, 1000);
    machine.timersChanged(machine.vp(1).plane(2));
    const notes = new Int32Array(2);
    const sent = noted(machine, notes, [[1, 2, 64], [0, 1, 64]]);
    // Messages that the programs themselves send; those for other planes are served where the policy lets them.
    const own = [[1, 0, 65], [0, 0, 66], [1, 1, 67], [1, 2, 69]] as const;
    return {
      ...base,
      notes,
      parties: [...sent.parties, nmi(machine, 1, 0)],
      settled: () => [...sent.missing(), ...own.filter(([v, p, n]) => !handlerRan(machine, v, p, n)).map(([v, p, n]) => `I-IRQ: VP ${v} plane ${p} never served ${n}`)],
    };
  },
});

/** Rules with one line broken that a machine shows whose parties act at points, one inside the other. */
export const broken: readonly (readonly [name: string, setting: PlaneSetting])[] = [
  ['entry ignores what was pending before', { ...irr, rule: (h) => new seeds.IgnoresEarlierMarks(h) }],
  ['the epilogue does not look at the requests', { ...irr, asked: 0b001, home: 1, served: [], rule: (h) => new seeds.ForgetsTheEpilogue(h) }],
  ['the epilogue clears the mark after it read the requests', { ...irr, asked: 0b011, home: 2, served: [], rule: (h) => new seeds.ClearsAfterReading(h) }],
  ['deliverability is decided outside the critical section', { ...deliverable, rule: (h) => new seeds.DecidesOutside(h) }],
];

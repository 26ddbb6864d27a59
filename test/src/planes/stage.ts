import type { Machine } from '@vmplanes/engine';
import type { ScriptCpu, Step, TableScript, X86Arch } from '@vmplanes/x86';

/** Two planes of a guest: one that may restrict the other, and that one. */
export type Rank = 'upper' | 'lower';

/** How a guest of one interface says what every guest with planes must be able to say. */
export interface Words {
  /** The lower plane asks the upper one to run, the upper one lets the lower one go on. */
  readonly toUpper: readonly Step[];
  readonly toLower: readonly Step[];
  /** The upper plane says what the lower one may do with a page. */
  protect(page: number, rights: 'nothing' | 'reading' | 'everything'): readonly Step[];
  /** The address of guest memory that both planes use. */
  at(gpa: number): bigint;
  /** Ends the interrupt that a handler serves, on a VP. */
  end(vp: number, rank: Rank): readonly Step[];
}

/** What the planes of a guest do. */
export interface Plot {
  /** By VP. The upper plane of each begins when it is first entered, the lower one at once. */
  readonly programs: readonly Readonly<Record<Rank, readonly Step[]>>[];
  /** Vectors whose handlers say that they ran. */
  readonly vectors: readonly number[];
}

/** A guest in its first state, its lower planes current. */
export interface Stage {
  readonly machine: Machine;
  readonly arch: X86Arch;
  readonly cpus: readonly ScriptCpu[];
  readonly plane: Readonly<Record<Rank, number>>;
  /** Bytes of the memory that both planes use. */
  peek(gpa: number, size?: number): Uint8Array;
}

/** One personality, as a guest of it can be made. */
export interface PlaneGuest {
  readonly name: string;
  build(vps: number, plot: (words: Words) => Plot): Stage;
}

/** Pages for tests, below the memory that the stages need themselves. */
export const DATA = 0x12_0000;
const FLAGS = 0x14_0000;
/** Where the handler of a vector, or a program, says that it came so far. */
export const flagOf = (vp: number, rank: Rank, what: number): number => FLAGS + vp * 0x400 + (rank === 'upper' ? 0x200 : 0) + what;
export const isSet = (stage: Stage, vp: number, rank: Rank, what: number): boolean => stage.peek(flagOf(vp, rank, what), 1)[0] === 1;
export const say = (words: Words, vp: number, rank: Rank, what: number): Step => ({ op: 'write', gpa: words.at(flagOf(vp, rank, what)), size: 1, value: 1 });

/** The program of one plane with its handlers. */
export const scriptOf = (words: Words, plot: Plot, vp: number, rank: Rank, before: readonly Step[] = []): TableScript => {
  const shift = (step: Step): Step => (step.op === 'jump' || step.op === 'jumpIf' || step.op === 'loop' ? { ...step, to: step.to + before.length } : step);
  return {
    id: `VP ${vp}, ${rank} plane`,
    steps: [...before, ...plot.programs[vp]![rank].map(shift)],
    handlers: Object.fromEntries(plot.vectors.map((v) => [String(v), [say(words, vp, rank, v), ...words.end(vp, rank)]])),
  };
};

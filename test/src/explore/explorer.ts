import { Broken, type Bounds, Player, type Saved, type Scenario, type World } from './player.ts';

export type { Bounds, Party, Scenario, World } from './player.ts';

export interface Failure {
  readonly why: string;
  /** Every choice of the path: input of {@link replayChoices}. */
  readonly choices: readonly number[];
  /** The same for readers. */
  readonly path: readonly string[];
}

export interface Report {
  readonly scenario: string;
  readonly depth: number;
  readonly states: number;
  readonly transitions: number;
  readonly pruned: number;
  /** Acts that came in between at a preemption point. */
  readonly intrusions: number;
  readonly settled: number;
  readonly resumed: number;
  readonly failure: Failure | null;
}

/**
 * Makes every choice of a scenario within bounds, each distinct state once: which VP runs a step, who acts, when a timer
 * is due, and at every preemption point inside a move whether somebody comes in between.
 */
export const explore = (scenario: Scenario, bounds: Bounds): Report => {
  const player = new Player(scenario, bounds);
  const seen = new Map<number, number>();
  const count = { states: 0, transitions: 0, pruned: 0, settled: 0, resumed: 0 };
  const path: number[] = [];
  let failure: Failure | null = null;

  const settle = (): void => {
    count.settled++;
    player.settle();
  };

  /** Restore equals continue. */
  const resume = (saved: Saved, key: number): void => {
    count.resumed++;
    settle();
    const end = player.key();
    player.restore(structuredClone(saved), true);
    if (player.key() !== key) throw new Broken('I-SNAP: the restored machine is not in the state that was saved');
    player.settle();
    if (player.key() !== end) throw new Broken('I-SNAP: the restored machine goes on in another way');
  };

  const visit = (key: number, left: number): void => {
    if ((seen.get(key) ?? -1) >= left) {
      count.pruned++;
      return;
    }
    if (!seen.has(key)) count.states++;
    seen.set(key, left);
    if (left === 0) {
      settle();
      return;
    }
    const saved = player.save();
    let isFirst = true;
    const again = (): void => {
      if (!isFirst) player.restore(saved, scenario.rebuilds === true);
      isFirst = false;
    };
    if (bounds.resumeOneIn && key % bounds.resumeOneIn === 0) {
      resume(saved, key);
      isFirst = false;
    }
    let rests = true;
    for (const move of player.moves()) {
      for (let choices: number[] | null = []; choices !== null; ) {
        again();
        player.choices = choices;
        player.at = 0;
        const length = path.length;
        path.push(move);
        try {
          player.move(move);
        } finally {
          path.push(...player.choices.slice(0, player.at));
        }
        count.transitions++;
        choices = player.nextChoices();
        const next = player.key();
        if (next !== key) rests = false;
        visit(next, left - 1);
        path.length = length;
      }
    }
    if (!rests) return;
    again();
    settle();
  };

  try {
    visit(player.key(), bounds.depth);
  } catch (error) {
    if (!(error instanceof Broken)) throw error;
    const choices = [...path];
    failure = { why: error.message, choices, path: replayChoices(scenario, bounds, choices).path };
  }
  return { scenario: scenario.name, depth: bounds.depth, ...count, intrusions: player.intrusions, failure };
};

/** Makes the choices of one path in a new machine and lets it come to rest: a counterexample as a test. */
export const replayChoices = (scenario: Scenario, bounds: Bounds, choices: readonly number[]): { readonly why: string | null; readonly path: readonly string[]; readonly world: World } => {
  const player = new Player(scenario, bounds);
  player.choices = [...choices];
  let why: string | null = null;
  try {
    while (player.at < choices.length) player.move(player.choices[player.at++]!);
    player.settle();
  } catch (error) {
    if (!(error instanceof Broken)) throw error;
    why = error.message;
  }
  return { why, path: player.labels, world: player.world };
};

/** One line for summaries. */
export const summary = (r: Report): string =>
  `${r.scenario}: depth ${r.depth}, ${r.states} states, ${r.transitions} transitions, ${r.pruned} met again, ${r.intrusions} acts in between, ${r.settled} run to rest, ${r.resumed} restored`;

import type { GeneratorScript, Step, StepResult } from '@vmplanes/x86';
import { Call, Msr } from './abi.ts';

/** The page that plane 1 takes away from plane 0, and the vectors of the two interrupts. */
const SECRET = 0x5000;
const WORK_READY = 0x51;
const ALARM = 0x71;

const call = (nr: number, rbx = 0, rcx = 0, rdx = 0): Step => ({ op: 'call', regs: { rax: nr, rbx, rcx, rdx } });
const enableApic: Step = { op: 'apicWrite', register: 0x0f, value: 0x1ff };

/** The lowest plane of processor 0: asks the planes above for service, and tries to write where it may not. */
const app: GeneratorScript = {
  id: 'app',
  *main({ rounds }) {
    yield enableApic;
    for (let i = 0; i < Number(rounds); i++) {
      yield { op: 'work', cost: 40 };
      yield call(Call.CallNext);
      yield { op: 'write', gpa: SECRET, value: 0xbad };
      yield call(Call.SendIpi, 1, WORK_READY, 0);
    }
  },
};

/** The middle plane: protects a page, looks at refused accesses, and hands every second call on to the top. */
const guard: GeneratorScript = {
  id: 'guard',
  *main() {
    yield call(Call.Protect, SECRET, 1, 0);
    for (let calls = 0; ; ) {
      const refused: StepResult = yield { op: 'rdmsr', index: Msr.Refused };
      yield { op: 'work', cost: 15 };
      if (refused.edxEax === 0n || ++calls % 2 === 0) yield call(Call.CallNext);
      yield call(Call.Return);
    }
  },
};

/** The top plane: raises an alarm in the middle plane of processor 1 each time it runs. */
const vault: GeneratorScript = {
  id: 'vault',
  *main() {
    for (;;) {
      yield { op: 'work', cost: 5 };
      yield call(Call.SendIpi, 1, ALARM, 1);
      yield call(Call.Return);
    }
  },
};

/** The lowest plane of processor 1: sleeps until there is work. */
const worker: GeneratorScript = {
  id: 'worker',
  *main({ rounds }) {
    yield enableApic;
    // Lets the plane above get ready for its alarms.
    yield call(Call.CallNext);
    for (let i = 0; i < Number(rounds); i++) {
      yield { op: 'sti' };
      yield { op: 'hlt' };
      // What comes while it works is taken at the next halt: no wake-up is lost.
      yield { op: 'cli' };
      yield { op: 'work', cost: 60 };
    }
  },
  *handler() {
    yield { op: 'eoi' };
  },
};

/** The middle plane of processor 1: takes alarms whatever the plane below it is doing. */
const watch: GeneratorScript = {
  id: 'watch',
  *main() {
    yield enableApic;
    yield { op: 'sti' };
    for (;;) yield call(Call.Return);
  },
  *handler() {
    yield { op: 'work', cost: 10 };
    yield { op: 'eoi' };
  },
};

/** What `guest.json` chooses from. */
export const scripts: readonly GeneratorScript[] = [app, guard, vault, worker, watch];

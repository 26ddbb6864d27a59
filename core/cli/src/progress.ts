import type { Progress } from '@vmplanes/vmm';

/** Milliseconds of host time between two updates, and before the first one. */
const EVERY_MS = 500;

/** One line on stderr that says how far a long run is; nothing where stderr is not a terminal. */
export function progressLine(): { readonly show: (progress: Progress) => void; readonly clear: () => void } {
  let last = performance.now();
  let isShown = false;
  return {
    show: ({ time, slices, switches }) => {
      const now = performance.now();
      if (!process.stderr.isTTY || now - last < EVERY_MS) return;
      last = now;
      isShown = true;
      process.stderr.write(`\r\x1b[K${(time / 1e9).toFixed(3)} s of virtual time, ${slices} slices, ${switches} switches (Ctrl-C stops)`);
    },
    clear: () => {
      if (isShown) process.stderr.write('\r\x1b[K');
      isShown = false;
    },
  };
}

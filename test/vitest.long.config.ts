import { defaultServerConditions } from 'vite';
import { defineConfig } from 'vitest/config';
import { reporters } from './src/support/run-report.ts';

/** Long budgets, run by `npm run test:long`: fuzzing, exploration, big corpora. No test has a time limit. */
export default defineConfig({
  ssr: { resolve: { conditions: ['source', ...defaultServerConditions] } },
  test: {
    reporters: reporters(),
    include: ['test/src/**/*.long.ts'],
    testTimeout: 0,
  },
});

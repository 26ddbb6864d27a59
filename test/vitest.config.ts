import { defaultServerConditions } from 'vite';
import { defineConfig } from 'vitest/config';
import { reporters } from './src/support/run-report.ts';

/** Tests run from sources through the `source` export condition: no build comes first. */
export default defineConfig({
  ssr: { resolve: { conditions: ['source', ...defaultServerConditions] } },
  test: {
    reporters: reporters(),
    include: ['{core,hypercalls,personalities}/*/src/**/*.test.ts', 'test/src/**/*.test.ts'],
    testTimeout: 30_000,
  },
});

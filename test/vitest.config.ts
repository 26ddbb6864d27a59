import { defaultServerConditions } from 'vite';
import { defineConfig } from 'vitest/config';

/** Tests run from sources through the `source` export condition: no build comes first. */
export default defineConfig({
  ssr: { resolve: { conditions: ['source', ...defaultServerConditions] } },
  test: {
    include: ['{core,hypercalls,personalities}/*/src/**/*.test.ts', 'test/src/**/*.test.ts'],
    testTimeout: 30_000,
  },
});

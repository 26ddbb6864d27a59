import { main } from './program.ts';

// A reader that closes the pipe early, such as `head`, ends the output, not with an error.
process.stdout.on('error', (error: Error & { readonly code?: string }) => {
  if (error.code === 'EPIPE') process.exit();
  throw error;
});

process.exitCode = await main(process.argv.slice(2));

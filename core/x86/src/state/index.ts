export * from './layout.ts';
export * from './registers.ts';
export * from './reset.ts';

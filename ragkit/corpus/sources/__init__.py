"""Where passages come from: one small module for each format of corpus."""
